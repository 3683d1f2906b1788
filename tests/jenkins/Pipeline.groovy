/** What the Jenkinsfile is compiled into: whatever it calls and does not define is a directive or a step. */
abstract class Pipeline extends Script {
    Interpreter jenkins

    void pipeline(Closure body) { jenkins.run(body) }

    def methodMissing(String name, arguments) { jenkins.step(name, arguments as List) }

    def propertyMissing(String name) { jenkins.variable(name) }
}
