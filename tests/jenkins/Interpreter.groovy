import groovy.io.FileType
import groovy.json.JsonSlurper
import java.nio.file.FileSystems

/** A step failed or the build was stopped; `result` is what the build then ends with. */
class Interruption extends RuntimeException {
    final String result

    Interruption(String message, String result = 'FAILURE') {
        super(message)
        this.result = result
    }
}

/** Records the directives of a block as [name, arguments], and its assignments as [name, value]. */
class Directives extends GroovyObjectSupport {
    private final List<List> found = []

    static List<List> of(Closure body) {
        Directives directives = new Directives()
        Closure copy = body.clone()
        copy.delegate = directives
        copy.resolveStrategy = Closure.DELEGATE_FIRST
        copy.call()
        return directives.recorded()
    }

    List<List> recorded() { found }

    def invokeMethod(String name, arguments) {
        List given = arguments as List
        // What is an argument, as logRotator(...) of buildDiscarder, was recorded before.
        found.removeAll { call -> given.any { it.is(call) } || given.any { it instanceof Map && it.values().any { it.is(call) } } }
        List call = [name, given]
        found << call
        return call
    }

    void setProperty(String name, value) {
        found.removeAll { it.is(value) }
        found << [name, value]
    }

    def getProperty(String name) { throw new MissingPropertyException(name, Directives) }
}

/**
 * Runs a Jenkinsfile as Jenkins does: the order in which a stage's options, input, agent, condition, credentials,
 * environment, steps and post come is that of ModelInterpreter in the plugin pipeline-model-definition 2.x. `sh` runs
 * for real. Nodes, locks, credentials, answers to an input and what happens to them are recorded as events.
 */
class Interpreter {
    static final List<String> WORSE = ['SUCCESS', 'UNSTABLE', 'FAILURE', 'NOT_BUILT', 'ABORTED']
    static final List<String> POST = ['always', 'changed', 'fixed', 'regression', 'aborted', 'failure', 'success', 'unstable',
                                      'unsuccessful', 'notBuilt', 'cleanup']

    final Map request
    final List<Map> events = []
    final List<String> log = []
    private Script script
    private String result
    private String stageName
    private final Map<String, Object> parameters = [:]
    private final Map<String, String> assigned = [:]
    // Innermost last: what withEnv, environment and credentials add; the nodes, locks and timeouts that are held.
    private final List<List<String>> variables = []
    private final List<Map> nodes = []
    private final List<String> locks = []
    private final List<String> timeouts = []
    private final Map<String, Map> stashes = [:]
    private final Map<String, Object> build
    private boolean checksOut = true

    Interpreter(Map request) {
        this.request = request
        Interpreter jenkins = this
        build = new HashMap<String, Object>() {
            def get(Object name) { name == 'result' ? jenkins.result : name == 'currentResult' ? jenkins.current() : super.get(name) }

            def put(String name, value) { name == 'result' ? jenkins.worsen(value.toString()) : super.put(name, value) }

            List<Map> getBuildCauses(String type = null) { jenkins.causes().findAll { type == null || it._class == type } }
        }
    }

    Map execute(Class<? extends Script> type) {
        script = type.getDeclaredConstructor().newInstance()
        script.jenkins = this
        String error = null
        try {
            script.run()
        } catch (Interruption interruption) {
            error = interruption.message
            worsen(interruption.result)
        }
        return [result: current(), error: error, events: events, log: log, description: build.description, variables: assigned]
    }

    List<Map> causes() {
        // Several, with commas between, where builds with the same parameters waited and became one.
        List<String> users = request.startedBy ? request.startedBy.tokenize(',') : []
        return users.collect { [_class: 'hudson.model.Cause$UserIdCause', userId: it, shortDescription: "Started by user ${it}".toString()] } ?:
            [[_class: 'hudson.triggers.TimerTrigger$TimerTriggerCause', shortDescription: 'Started by timer']]
    }

    // ---- the pipeline and its stages

    void run(Closure body) {
        Map<String, List> root = sections(body)
        Map<String, List> options = root.options ? sections(root.options[0]) : [:]
        checksOut = !options.containsKey('skipDefaultCheckout')
        if (request.restart) {
            // As Jenkins does, it takes along what scripts of the build before assigned to env.
            if (options.containsKey('disableRestartFromStage')) {
                throw new Interruption('Restart from Stage is disabled', 'NOT_BUILT')
            }
            assigned.putAll(request.restart.variables ?: [:])
        }
        declare(root)
        Interruption failure = null
        boolean reported = false
        try {
            inAgent(root.agent, null) {
                inEnvironment(root.environment) {
                    inOptions(root.options) {
                        failure = stages(root.stages[0], root, failure)
                        reported = true
                        failure = post(root.post, failure, null)
                        if (failure) {
                            throw failure
                        }
                    }
                }
            }
        } catch (Interruption interruption) {
            failure = failure ?: interruption
            worsen(interruption.result)
        }
        if (!reported) {
            failure = post(root.post, failure, null)
        }
        if (failure) {
            throw failure
        }
    }

    private void declare(Map<String, List> root) {
        Map<String, String> given = new HashMap<>(request.parameters ?: [:])
        List<Map> declared = root.parameters ? Directives.of(root.parameters[0]).collect { name, arguments ->
            [type: name] + arguments[0]
        } : []
        for (Map each in declared) {
            Object standard = each.type == 'choice' ? each.choices[0] : each.defaultValue == null ? '' : each.defaultValue
            String value = given.containsKey(each.name) ? given.remove(each.name) : standard as String
            value = each.trim ? value?.trim() : value
            parameters[each.name] = each.type == 'booleanParam' ? value == 'true' : value
        }
        if (given) {
            throw new Interruption("no such parameters: ${given.keySet()}")
        }
        events << [kind: 'job', parameters: declared.collect { it.subMap(['type', 'name', 'choices', 'defaultValue', 'description']) },
                   triggers: root.triggers ? plain(Directives.of(root.triggers[0])) : [],
                   options: root.options ? plain(Directives.of(root.options[0])) : []]
    }

    private Interruption stages(Closure body, Map<String, List> root, Interruption failure, String agentOfParent = null) {
        boolean skipping = request.restart != null && agentOfParent == null && locks.empty && stageName == null
        Directives.of(body).each { name, arguments ->
            skipping = skipping && arguments[0] != request.restart.stage
            failure = stage(arguments[0], arguments[1], root, failure, skipping)
        }
        return failure
    }

    private Interruption stage(String name, Closure body, Map<String, List> root, Interruption failure, boolean skipping) {
        String outer = stageName
        stageName = name
        meanwhile((request.meanwhile ?: [:])[name])
        Map<String, List> stage = sections(body)
        String skipped = skipping ? 'restart' : failure ? 'failure' : null
        Interruption error = failure
        try {
            if (skipped == null && before(stage, 'beforeOptions') && !condition(stage.when)) {
                skipped = 'when'
            }
            if (skipped == null) {
                inOptions(stage.options) {
                    if (before(stage, 'beforeInput') && !before(stage, 'beforeOptions') && !condition(stage.when)) {
                        skipped = 'when'
                        return
                    }
                    withInput(stage.input) {
                        boolean asked = before(stage, 'beforeOptions') || before(stage, 'beforeInput')
                        if (before(stage, 'beforeAgent') && !asked && !condition(stage.when)) {
                            skipped = 'when'
                            return
                        }
                        asked = asked || before(stage, 'beforeAgent')
                        inAgent(stage.agent, root.agent) {
                            if (!asked && !condition(stage.when)) {
                                skipped = 'when'
                                return
                            }
                            events << [kind: 'stage', stage: name, status: 'run']
                            inEnvironment(stage.environment) {
                                if (stage.stages || stage.parallel) {
                                    Interruption nested = stages((stage.stages ?: stage.parallel)[0], root, null, name)
                                    nested = post(stage.post, nested, name)
                                    if (nested) {
                                        throw nested
                                    }
                                } else {
                                    work(stage, name)
                                }
                            }
                        }
                    }
                }
            }
        } catch (Interruption interruption) {
            error = error ?: interruption
            worsen(interruption.result)
            events << [kind: 'failed', stage: name, error: interruption.message, result: interruption.result]
            log << "[${name}] ${interruption.message}".toString()
        }
        if (skipped) {
            events << [kind: 'stage', stage: name, status: 'skipped', why: skipped]
            if (stage.stages) {
                Directives.of(stage.stages[0]).each { nested, arguments ->
                    events << [kind: 'stage', stage: arguments[0], status: 'skipped', why: skipped]
                }
            }
        }
        stageName = outer
        return error
    }

    // What happens outside Jenkins before a stage begins, as a push to the branch.
    private static void meanwhile(String command) {
        command && inShell(new File('.'), command)
    }

    private static String inShell(File directory, String script) {
        Process process = new ProcessBuilder('/bin/sh', '-ec', script).directory(directory).start()
        StringBuilder output = new StringBuilder(), errors = new StringBuilder()
        process.waitForProcessOutput(output, errors)
        if (process.exitValue() != 0) {
            throw new Interruption("${script}: ${errors}".toString())
        }
        return output.toString().trim()
    }

    private void work(Map<String, List> stage, String name) {
        Interruption failure = null
        try {
            perform(stage.steps[0])
        } catch (Interruption interruption) {
            failure = interruption
            worsen(interruption.result)
        }
        failure = post(stage.post, failure, name)
        if (failure) {
            throw failure
        }
    }

    private Interruption post(List section, Interruption failure, String stage) {
        if (section == null) {
            return failure
        }
        Map<String, Closure> conditions = Directives.of(section[0]).collectEntries { name, arguments -> [name, arguments[0]] }
        String now = worst(current(), failure?.result ?: 'SUCCESS')
        String last = request.previousResult
        POST.findAll { conditions[it] }.each { String condition ->
            now = worst(now, worst(current(), failure?.result ?: 'SUCCESS'))
            boolean holds = [
                always: true, cleanup: true, changed: last != null && last != now, fixed: last in ['FAILURE', 'UNSTABLE'] && now == 'SUCCESS',
                regression: last != null && WORSE.indexOf(now) > WORSE.indexOf(last), aborted: now == 'ABORTED', failure: now == 'FAILURE',
                success: now == 'SUCCESS', unstable: now == 'UNSTABLE', unsuccessful: now != 'SUCCESS', notBuilt: now == 'NOT_BUILT',
            ][condition]
            if (!holds) {
                return
            }
            events << [kind: 'post', stage: stage, condition: condition]
            try {
                perform(conditions[condition])
            } catch (Interruption interruption) {
                log << "Error when executing ${condition} post condition: ${interruption.message}".toString()
                events << [kind: 'failed', stage: stage, post: condition, error: interruption.message]
                worsen(interruption.result)
                failure = failure ?: interruption
            }
        }
        return failure
    }

    private boolean before(Map<String, List> stage, String name) {
        return stage.when && Directives.of(stage.when[0]).any { it[0] == name && it[1][0] == true }
    }

    private boolean condition(List section) {
        if (section == null) {
            return true
        }
        List<List> conditions = Directives.of(section[0]).findAll { !(it[0] in Validator.BEFORE) }
        boolean holds = conditions.every { holds(it[0], it[1]) }
        events << [kind: 'when', stage: stageName, holds: holds, nodes: held(), locks: locks.clone()]
        return holds
    }

    private boolean holds(String name, List arguments) {
        switch (name) {
            case 'expression': return perform(arguments[0]) as boolean
            case 'isEqual': return arguments[0].expected == arguments[0].actual
            case 'environment': return effective()[arguments[0].name] == arguments[0].value
            case 'branch': return variable('BRANCH_NAME', false) == (arguments[0] instanceof Map ? arguments[0].pattern : arguments[0])
            case 'not': return !Directives.of(arguments[0]).every { holds(it[0], it[1]) }
            case 'allOf': return Directives.of(arguments[0]).every { holds(it[0], it[1]) }
            case 'anyOf': return Directives.of(arguments[0]).any { holds(it[0], it[1]) }
        }
        throw new IllegalStateException("the harness does not know the condition ${name}")
    }

    // ---- what is around the steps of a stage

    private void inOptions(List section, Closure body) {
        List<List> wrappers = section ? Directives.of(section[0]).findAll { it[0] in ['timeout', 'lock', 'retry'] } : []
        Closure whole = wrappers.reverse().inject(body) { Closure inner, List wrapper ->
            return { step(wrapper[0], wrapper[1] + [inner]) }
        }
        whole()
    }

    private void withInput(List section, Closure body) {
        if (section == null) {
            body()
            return
        }
        Map<String, Object> input = Directives.of(section[0]).collectEntries { name, arguments -> [name, arguments[0].toString()] }
        String by = answered(input)
        withVariables(input.submitterParameter ? ["${input.submitterParameter}=${by}".toString()] : [], body)
    }

    // Who let the build go on.
    private String answered(Map<String, Object> input) {
        Map answer = (request.inputs ?: [:])[stageName] ?: [:]
        events << [kind: 'input', stage: stageName, message: input.message.toString(), submitter: input.submitter, nodes: held(),
                   locks: locks.clone(), timeouts: timeouts.clone()]
        if (answer.answer == 'abort') {
            throw new Interruption("Rejected by ${answer.by}", 'ABORTED')
        }
        if (answer.answer != 'proceed') {
            timeouts ?: { throw new IllegalStateException("nobody answers the input of ${stageName}, and no timeout ends it") }()
            throw new Interruption('Timeout has been exceeded', 'ABORTED')
        }
        if (input.submitter && !(answer.by in input.submitter.split(',')) && !(answer.by in (request.groups ?: [:])[input.submitter])) {
            throw new IllegalStateException("${answer.by} may not answer the input of ${stageName}: ${input.submitter}")
        }
        return answer.by
    }

    private void inAgent(List section, List ofRoot, Closure body) {
        String label = section == null || section[0] == 'none' ? null : section[0] == 'any' ? '' : labelOf(section[0])
        if (label == null) {
            body()
            return
        }
        onNode(label) {
            if (checksOut && request.checkout) {
                checkout()
            }
            body()
        }
    }

    private onNode(String label, Closure body) {
        Map node = [label: label, workspace: new File(request.workspaces, request.machine ?: label ?: 'any')]
        nodes << node
        events << [kind: 'agent', stage: stageName, label: label, locks: locks.clone(), timeouts: timeouts.clone()]
        node.workspace.mkdirs()
        try {
            return body()
        } finally {
            nodes.removeLast()
            events << [kind: 'released', stage: stageName, label: label]
        }
    }

    // The newest commit of the branch, into a workspace that may hold what an earlier build left.
    private Map<String, String> checkout() {
        needNode('checkout')
        String script = "[ -d .git ] || git init -q\ngit fetch -q '${request.checkout}' HEAD\ngit checkout -q -f --detach FETCH_HEAD\ngit rev-parse HEAD"
        String commit = inShell(nodes[-1].workspace, script)
        events << [kind: 'checkout', stage: stageName, commit: commit]
        return [GIT_COMMIT: commit]
    }

    private static String labelOf(Closure body) {
        List kind = Directives.of(body)[0]
        if (kind[0] == 'label') {
            return kind[1][0]
        }
        if (kind[0] == 'node') {
            return Directives.of(kind[1][0]).find { it[0] == 'label' }[1][0]
        }
        throw new IllegalStateException("the harness does not know the agent ${kind[0]}")
    }

    private void inEnvironment(List section, Closure body) {
        if (section == null) {
            body()
            return
        }
        int depth = variables.size()
        try {
            // Each value may name those before it.
            Environment.evaluate(section[0], this).each { name, value ->
                if (value instanceof List && value[0] == 'credentials') {
                    variables << bound([[variable: name, credentialsId: value[1][0]]])
                } else {
                    variables << [expanded("${name}=${value}")]
                }
            }
            body()
        } finally {
            while (variables.size() > depth) {
                variables.removeLast()
            }
        }
    }

    private void withVariables(List<String> added, Closure body) {
        variables << added.collect { expanded(it) }
        try {
            body()
        } finally {
            variables.removeLast()
        }
    }

    // withEnv expands variables in what it sets.
    private String expanded(String assignment) {
        Map<String, String> known = effective()
        return assignment.replaceAll(/\$(\$|[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})/) { whole, name ->
            name == '$' ? '$' : known[name.replaceAll(/[{}]/, '')] ?: whole
        }
    }

    private List<String> bound(List<Map> bindings) {
        return bindings.collect { Map binding ->
            Map credential = (request.credentials ?: [:])[binding.credentialsId]
            if (credential == null) {
                throw new Interruption("Could not find credentials entry with ID '${binding.credentialsId}'")
            }
            events << [kind: 'credential', stage: stageName, id: binding.credentialsId, variable: binding.variable]
            if (credential.kind == 'file') {
                needNode('withCredentials')
            }
            "${binding.variable}=${credential.value}".toString()
        }
    }

    // ---- steps

    def perform(Closure body) {
        if (body.thisObject.is(this)) {
            return body.call()
        }
        Closure copy = body.clone()
        copy.delegate = script
        copy.resolveStrategy = Closure.DELEGATE_FIRST
        return copy.call()
    }

    def step(String name, List given) {
        Closure body = given && given[-1] instanceof Closure ? given[-1] : null
        List rest = body ? given.init() : given
        Map<String, Object> named = rest && rest[0] instanceof Map ? rest[0] : [:]
        if (rest && !(rest[0] instanceof Map)) {
            if (!(name in Validator.STEPS)) {
                throw new Interruption("No such DSL method '${name}' found among steps")
            }
            if (rest.size() > 1) {
                throw new Interruption("Too many unnamed parameters of ${name}: ${rest}")
            }
            named = [(Validator.STEPS[name].find { it != '*' }): rest[0]]
        }
        Validator.wrongTypes(name, named).each { throw new Interruption(it) }
        switch (name) {
            case 'sh': return shell(named)
            case 'echo':
                log << named.message.toString()
                events << [kind: 'echo', stage: stageName, message: named.message.toString()]
                return null
            case 'error': throw new Interruption(named.message.toString())
            case 'unstable':
                log << named.message.toString()
                worsen('UNSTABLE')
                return null
            case 'script': return perform(body)
            case 'checkout': return checkout()
            case 'node': return onNode(named.label) { perform(body) }
            case 'input': return answered(named)
            case 'sleep':
                events << [kind: 'sleep', stage: stageName, nodes: held(), seconds: named.time]
                return null
            case ['file', 'string']: return named
            case 'withCredentials':
                variables << bound(named.bindings)
                try {
                    return perform(body)
                } finally {
                    variables.removeLast()
                }
            case 'withEnv': return withVariables(named.overrides*.toString(), { perform(body) })
            case 'timeout':
                timeouts << "${named.time} ${named.unit ?: 'MINUTES'}".toString()
                try {
                    return perform(body)
                } finally {
                    timeouts.removeLast()
                }
            case 'lock': return lock(named.resource.toString(), body)
            case 'retry': return retry(named.count, body)
            case 'dir': return directory(named.path, body)
            case 'catchError':
                try {
                    return perform(body)
                } catch (Interruption interruption) {
                    log << interruption.message
                    worsen(named.buildResult ?: 'FAILURE')
                    return null
                }
            case 'junit': return junit(named)
            case 'archiveArtifacts': return archive(named)
            case 'readJSON': return new JsonSlurper().parseText(named.text ?: inWorkspace('readJSON', named.file).text)
            case 'fileExists': return inWorkspace('fileExists', named.file).exists()
            case 'stash': return stash(named)
            case 'unstash': return unstash(named)
            case 'deleteDir':
                inWorkspace('deleteDir', '.').canonicalFile.deleteDir()
                return null
        }
        throw new Interruption("No such DSL method '${name}' found among steps")
    }

    private shell(Map named) {
        File directory = inWorkspace('sh', '.')
        if (request.abort && named.script =~ request.abort) {
            throw new Interruption("Aborted by ${request.startedBy}", 'ABORTED')
        }
        File file = File.createTempFile('script', '.sh')
        file.text = named.script
        Map<String, String> environment = effective()
        Process process = new ProcessBuilder('/bin/sh', '-xe', file.path).directory(directory)
            .with { it.environment().clear(); it.environment().putAll(environment); it }.start()
        process.outputStream.close()
        StringBuilder output = new StringBuilder(), errors = new StringBuilder()
        process.waitForProcessOutput(output, errors)
        file.delete()
        int exit = process.exitValue()
        events << [kind: 'sh', stage: stageName, script: named.script.toString(), exit: exit, node: nodes[-1].label, locks: locks.clone(),
                   timeouts: timeouts.clone(), output: output.toString(), errors: errors.toString()]
        named.returnStdout ?: (log << output.toString())
        log << errors.toString()
        if (named.returnStatus) {
            return exit
        }
        if (exit != 0) {
            throw new Interruption("script returned exit code ${exit}")
        }
        return named.returnStdout ? output.toString() : null
    }

    private lock(String resource, Closure body) {
        if (resource in (request.locked ?: [])) {
            events << [kind: 'waits', stage: stageName, lock: resource, nodes: held()]
        }
        locks << resource
        events << [kind: 'lock', stage: stageName, lock: resource]
        try {
            return perform(body)
        } finally {
            locks.removeLast()
            events << [kind: 'unlock', stage: stageName, lock: resource]
        }
    }

    private retry(int count, Closure body) {
        for (int attempt = 1; ; attempt++) {
            try {
                return perform(body)
            } catch (Interruption interruption) {
                if (attempt == count || interruption.result == 'ABORTED') {
                    throw interruption
                }
            }
        }
    }

    private directory(String path, Closure body) {
        needNode('dir')
        File before = nodes[-1].workspace
        nodes[-1].workspace = new File(before, path)
        nodes[-1].workspace.mkdirs()
        try {
            return perform(body)
        } finally {
            nodes[-1].workspace = before
        }
    }

    private junit(Map named) {
        List<File> found = matching(named.testResults)
        events << [kind: 'junit', stage: stageName, files: found*.name]
        if (!found && !named.allowEmptyResults) {
            throw new Interruption('No test report files were found. Configuration error?')
        }
        if (found.any { new XmlSlurperOf(it).failed() }) {
            worsen('UNSTABLE')
        }
        return null
    }

    private archive(Map named) {
        List<File> found = named.artifacts.split(',').collectMany { matching(it.trim()) }
        // Jenkins keeps them apart from the workspace, which the next stage empties.
        File kept = new File(request.workspaces, ".artifacts/${events.size()}")
        found.each { File file ->
            File copy = new File(kept, relative(file))
            copy.parentFile.mkdirs()
            copy.bytes = file.bytes
        }
        events << [kind: 'archive', stage: stageName, files: found.collect { relative(it) }, fingerprint: named.fingerprint ?: false,
                   kept: kept.path]
        if (!found && !named.allowEmptyArchive) {
            throw new Interruption("No artifacts found that match the file pattern \"${named.artifacts}\". Configuration error?")
        }
        return null
    }

    private stash(Map named) {
        List<File> found = matching(named.includes ?: '**')
        if (!found) {
            throw new Interruption("No files included in stash '${named.name}'")
        }
        stashes[named.name] = found.collectEntries { [relative(it), it.bytes] }
        return null
    }

    private unstash(Map named) {
        Map files = stashes[named.name]
        if (files == null) {
            throw new Interruption("No such saved stash '${named.name}'")
        }
        files.each { path, content ->
            File file = inWorkspace('unstash', path)
            file.parentFile.mkdirs()
            file.bytes = content
        }
        return null
    }

    // ---- what steps see

    def variable(String name, boolean wanted = true) {
        switch (name) {
            case 'params': return parameters
            case 'env': return new Environment(this)
            case 'currentBuild': return build
            case ['none', 'any', 'scm']: return name
        }
        String value = effective()[name]
        if (value == null && wanted) {
            throw new MissingPropertyException(name, Pipeline)
        }
        return value
    }

    void assign(String name, value) { assigned[name] = value.toString() }

    Map<String, String> effective() {
        Map<String, String> all = new HashMap<>(request.environment ?: [:])
        parameters.each { name, value -> all[name] = value == null ? '' : value.toString() }
        stageName && (all.STAGE_NAME = stageName)
        nodes && (all.WORKSPACE = nodes[-1].workspace.path)
        all.putAll(assigned)
        variables.flatten().each { String each -> all[each.substring(0, each.indexOf('='))] = each.substring(each.indexOf('=') + 1) }
        return all
    }

    private List<String> held() { nodes*.label }

    private void needNode(String step) {
        if (!nodes) {
            throw new Interruption("Required context class hudson.FilePath is missing: ${step} needs an agent")
        }
    }

    private File inWorkspace(String step, String path) {
        needNode(step)
        return new File(nodes[-1].workspace, path)
    }

    private List<File> matching(String pattern) {
        needNode('a step with files')
        File root = nodes[-1].workspace
        def matcher = FileSystems.default.getPathMatcher("glob:${pattern}")
        List<File> found = []
        root.exists() && root.eachFileRecurse(FileType.FILES) { File file ->
            matcher.matches(root.toPath().relativize(file.toPath())) && found << file
        }
        return found.sort()
    }

    private String relative(File file) { nodes[-1].workspace.toPath().relativize(file.toPath()).toString() }

    private String current() { result ?: 'SUCCESS' }

    void worsen(String to) { result = worst(current(), to) }

    private static String worst(String one, String other) { WORSE.indexOf(one) > WORSE.indexOf(other) ? one : other }

    private static Map<String, List> sections(Closure body) { Directives.of(body).collectEntries { name, arguments -> [name, arguments] } }

    private static plain(value) {
        return value instanceof Map ? value.collectEntries { name, each -> [name, plain(each)] } :
            value instanceof Collection ? value.collect { plain(it) } : value instanceof GString ? value.toString() : value
    }
}

/** `env` of a Jenkinsfile, and the block `environment`: names that are assigned, and read as they stand then. */
class Environment extends GroovyObjectSupport {
    private final Interpreter jenkins
    private final Map<String, Object> block

    Environment(Interpreter jenkins, Map<String, Object> block = null) {
        this.jenkins = jenkins
        this.block = block
    }

    static Map<String, Object> evaluate(Closure body, Interpreter jenkins) {
        Map<String, Object> found = [:]
        Closure copy = body.clone()
        copy.delegate = new Environment(jenkins, found)
        copy.resolveStrategy = Closure.DELEGATE_FIRST
        copy.call()
        return found
    }

    def getProperty(String name) {
        if (block != null) {
            if (block[name] instanceof CharSequence) {
                return block[name]
            }
            throw new MissingPropertyException(name, Environment)
        }
        return jenkins.variable(name, false)
    }

    void setProperty(String name, value) { block == null ? jenkins.assign(name, value) : block.put(name, value) }

    def credentials(String id) { ['credentials', [id]] }
}

/** Whether a JUnit report tells of a test that did not pass. */
class XmlSlurperOf {
    private final File file

    XmlSlurperOf(File file) { this.file = file }

    boolean failed() { file.text =~ /<(failure|error)\b/ }
}
