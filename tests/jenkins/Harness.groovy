import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import org.codehaus.groovy.control.CompilerConfiguration

/** A request in JSON on each line of standard input, its answer on a line of standard output. */
CompilerConfiguration configuration = new CompilerConfiguration()
configuration.scriptBaseClass = Pipeline.name
GroovyShell shell = new GroovyShell(Harness.classLoader, new Binding(), configuration)
Map<String, Map> compiled = [:]
CompilerConfiguration ofSeeds = new CompilerConfiguration()
ofSeeds.scriptBaseClass = Seed.name
GroovyShell seeds = new GroovyShell(Harness.classLoader, new Binding(), ofSeeds)
System.in.eachLine('UTF-8') { String line ->
    Map request = new JsonSlurper().parseText(line)
    Map answer
    try {
        if (request.seed) {
            Seed script = seeds.parse(request.seed)
            script.files = request.files
            script.run()
            System.out.println(JsonOutput.toJson([calls: script.root.calls]))
            System.out.flush()
            return
        }
        Map known = compiled.computeIfAbsent(request.jenkinsfile) { String text ->
            Validator validator = Validator.validate(text)
            // A closure has a method `equals` of its own, which would be taken instead of the condition.
            String renamed = text.replaceAll(/\bequals(?=\s*\(?\s*(expected|actual):)/, 'isEqual')
            [errors: validator.errors, shells: validator.shells, type: validator.errors ? null : shell.parse(renamed).getClass()]
        }
        answer = [errors: known.errors, shells: known.shells]
        if (!known.errors && request.run) {
            answer += new Interpreter(request).execute(known.type)
        }
    } catch (Throwable problem) {
        StringWriter trace = new StringWriter()
        problem.printStackTrace(new PrintWriter(trace))
        answer = [broken: "${problem}\n${trace.toString().readLines().take(25).join('\n')}".toString()]
    }
    System.out.println(JsonOutput.toJson(answer))
    System.out.flush()
}
