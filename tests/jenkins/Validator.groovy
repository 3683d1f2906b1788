import org.codehaus.groovy.ast.CodeVisitorSupport
import org.codehaus.groovy.ast.ModuleNode
import org.codehaus.groovy.ast.expr.ArrayExpression
import org.codehaus.groovy.ast.expr.BinaryExpression
import org.codehaus.groovy.ast.expr.BooleanExpression
import org.codehaus.groovy.ast.expr.CastExpression
import org.codehaus.groovy.ast.expr.ClosureExpression
import org.codehaus.groovy.ast.expr.ConstantExpression
import org.codehaus.groovy.ast.expr.ConstructorCallExpression
import org.codehaus.groovy.ast.expr.DeclarationExpression
import org.codehaus.groovy.ast.expr.ElvisOperatorExpression
import org.codehaus.groovy.ast.expr.Expression
import org.codehaus.groovy.ast.expr.GStringExpression
import org.codehaus.groovy.ast.expr.LambdaExpression
import org.codehaus.groovy.ast.expr.ListExpression
import org.codehaus.groovy.ast.expr.MapExpression
import org.codehaus.groovy.ast.expr.MethodCallExpression
import org.codehaus.groovy.ast.expr.MethodPointerExpression
import org.codehaus.groovy.ast.expr.MethodReferenceExpression
import org.codehaus.groovy.ast.expr.NotExpression
import org.codehaus.groovy.ast.expr.PropertyExpression
import org.codehaus.groovy.ast.expr.TernaryExpression
import org.codehaus.groovy.ast.expr.VariableExpression
import org.codehaus.groovy.ast.stmt.BlockStatement
import org.codehaus.groovy.ast.stmt.ExpressionStatement
import org.codehaus.groovy.ast.stmt.Statement
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.Phases
import org.codehaus.groovy.syntax.Types

import java.util.concurrent.TimeUnit

/**
 * Refuses what Jenkins refuses before it runs anything: an unknown directive, one in the wrong place, twice, or of the
 * wrong form. After ModelParser and ModelValidatorImpl of the plugin pipeline-model-definition 2.x, as far as this
 * repository's Jenkinsfile goes, and stricter in one thing: the language is Groovy 2.4's. A step that there is not fails
 * when it is run, as in Jenkins.
 */
class Validator {
    static final Set<String> TOP = ['agent', 'stages', 'environment', 'post', 'tools', 'options', 'parameters', 'triggers',
                                    'libraries']
    static final Set<String> STAGE = ['agent', 'when', 'steps', 'post', 'options', 'input', 'tools', 'environment',
                                      'parallel', 'matrix', 'failFast', 'stages']
    static final Set<String> WORK = ['steps', 'stages', 'parallel', 'matrix']
    static final Set<String> CONDITIONS = ['always', 'changed', 'fixed', 'regression', 'aborted', 'failure', 'success',
                                           'unstable', 'unsuccessful', 'notBuilt', 'cleanup']
    static final Set<String> WHEN = ['branch', 'buildingTag', 'changelog', 'changeset', 'changeRequest', 'environment',
                                     'equals', 'expression', 'tag', 'triggeredBy', 'isRestartedRun', 'not', 'allOf', 'anyOf']
    static final Set<String> BEFORE = ['beforeAgent', 'beforeInput', 'beforeOptions']
    static final Map<String, Set<String>> AGENTS = [
        label: [], node: ['label', 'customWorkspace'],
        docker: ['image', 'args', 'label', 'registryUrl', 'registryCredentialsId', 'alwaysPull', 'reuseNode'],
        dockerfile: ['filename', 'dir', 'label', 'args', 'additionalBuildArgs', 'reuseNode'],
    ]
    static final Map<String, Set<String>> PARAMETERS = [
        string: ['name', 'defaultValue', 'description', 'trim'], text: ['name', 'defaultValue', 'description', 'trim'],
        choice: ['name', 'choices', 'description'], booleanParam: ['name', 'defaultValue', 'description'],
        password: ['name', 'defaultValue', 'description'],
    ]
    static final Set<String> TRIGGERS = ['cron', 'pollSCM', 'upstream', 'parameterizedCron']
    static final Set<String> INPUT = ['message', 'id', 'ok', 'submitter', 'submitterParameter', 'parameters']
    // Of the job as a whole; a stage takes those that wrap what is in it.
    static final Set<String> JOB_OPTIONS = ['buildDiscarder', 'disableConcurrentBuilds', 'disableResume', 'newContainerPerStage',
                                            'overrideIndexTriggers', 'preserveStashes', 'quietPeriod', 'checkoutToSubdirectory',
                                            'parallelsAlwaysFailFast', 'skipStagesAfterUnstable', 'durabilityHint',
                                            'disableRestartFromStage']
    static final Set<String> WRAPPERS = ['skipDefaultCheckout', 'timeout', 'retry', 'timestamps', 'lock', 'withCredentials', 'withEnv']
    // Steps by name with what they take; the first is what may stand without its name; '*' is a block.
    static final Map<String, List<String>> STEPS = [
        sh: ['script', 'returnStdout', 'returnStatus', 'label', 'encoding'], echo: ['message'], error: ['message'],
        unstable: ['message'], script: ['*'], withCredentials: ['bindings', '*'], withEnv: ['overrides', '*'],
        lock: ['resource', 'label', 'quantity', 'variable', '*'], timeout: ['time', 'unit', 'activity', '*'], retry: ['count', '*'],
        dir: ['path', '*'], catchError: ['buildResult', 'stageResult', 'message', '*'],
        junit: ['testResults', 'allowEmptyResults', 'keepLongStdio', 'skipPublishingChecks'],
        archiveArtifacts: ['artifacts', 'allowEmptyArchive', 'fingerprint', 'onlyIfSuccessful', 'excludes'],
        readJSON: ['file', 'text'], fileExists: ['file'], stash: ['name', 'includes', 'excludes'], unstash: ['name'],
        checkout: ['scm', 'changelog', 'poll'], node: ['label', '*'], sleep: ['time', 'unit'],
        input: ['message', 'id', 'ok', 'submitter', 'submitterParameter', 'parameters'],
        deleteDir: [], file: ['credentialsId', 'variable'], string: ['credentialsId', 'variable'],
    ]
    // What a parameter of a step has to be; Jenkins turns no text into a number or a truth value.
    static final Map<String, Map<String, Object>> TYPES = [
        timeout: [time: Integer, unit: TimeUnit.values()*.name(), activity: Boolean], retry: [count: Integer],
        sleep: [time: Integer, unit: TimeUnit.values()*.name()], sh: [returnStdout: Boolean, returnStatus: Boolean],
        junit: [allowEmptyResults: Boolean, testResults: String],
        archiveArtifacts: [allowEmptyArchive: Boolean, fingerprint: Boolean, onlyIfSuccessful: Boolean, artifacts: String],
        string: [trim: Boolean], booleanParam: [defaultValue: Boolean], readJSON: [text: String, file: String],
    ]
    // What the sandbox lets a script call on a value.
    static final Set<String> METHODS = ['any', 'collect', 'contains', 'containsKey', 'each', 'every', 'find', 'findAll', 'get',
                                        'equalsIgnoreCase', 'getBuildCauses', 'isEmpty', 'join', 'size', 'startsWith', 'trim', 'call', 'matches', 'toString']
    static final Set<Class<?>> EXPRESSIONS = [
        ArrayExpression, BinaryExpression, BooleanExpression, CastExpression, ClosureExpression, ConstantExpression,
        DeclarationExpression, ElvisOperatorExpression, GStringExpression, ListExpression, MapExpression,
        MethodCallExpression, NotExpression, PropertyExpression, TernaryExpression, VariableExpression]

    final List<String> errors = []
    /** Every shell script of the file: its line, and whether it is the same text whatever the parameters are. */
    final List<Map> shells = []
    private Set<String> functions
    private final Set<String> stageNames = []

    static Validator validate(String text) {
        CompilationUnit unit = new CompilationUnit()
        unit.addSource('Jenkinsfile', text)
        Validator validator = new Validator()
        try {
            unit.compile(Phases.CONVERSION)
        } catch (Exception error) {
            validator.errors << error.message
            return validator
        }
        validator.module(unit.AST.modules[0])
        return validator
    }

    /** What is of another type than a step takes, as Jenkins says it; a value that is not known yet is taken. */
    static List<String> wrongTypes(String step, Map<String, Object> given) {
        return given.findAll { name, value -> value != null && (TYPES[step] ?: [:])[name] }.collect { name, value ->
            Object wanted = TYPES[step][name]
            if (wanted instanceof List) {
                return value in wanted ? null : "Expecting one of ${wanted} for parameter \"${name}\" of ${step}, not \"${value}\""
            }
            boolean fits = wanted == String ? value instanceof CharSequence : wanted.isInstance(value)
            return fits ? null : "Expecting ${wanted.simpleName} for parameter \"${name}\" of ${step}, but got \"${value}\" " +
                "of type ${value.getClass().simpleName}"
        }.findAll().collect { it.toString() }
    }

    private void module(ModuleNode module) {
        functions = module.methods*.name as Set
        module.methods.each { language(it.code) }
        language(module.statementBlock)
        List<Statement> pipelines = module.statementBlock.statements.findAll { callOf(it)?.methodAsString == 'pipeline' }
        if (pipelines.size() != 1) {
            errors << "${pipelines.size()} pipeline blocks instead of one".toString()
            return
        }
        (module.statementBlock.statements - pipelines).each { Statement each ->
            each instanceof ExpressionStatement && each.expression instanceof DeclarationExpression
                ?: refuse(each, 'beside pipeline only functions and variables are declared here')
        }
        pipeline(pipelines[0])
    }

    private void pipeline(Statement statement) {
        Map<String, Statement> seen = sections(statement, TOP, 'Undefined section')
        ['agent', 'stages'].findAll { !(it in seen) }.each { refuse(statement, "Missing required section \"${it}\"") }
        seen.agent && agent(seen.agent)
        seen.stages && stages(seen.stages)
        seen.environment && environment(seen.environment)
        seen.post && post(seen.post)
        seen.options && options(seen.options, JOB_OPTIONS + WRAPPERS)
        seen.parameters && parameters(seen.parameters)
        seen.triggers && calls(seen.triggers, 'triggers').each { Statement each ->
            known(each, TRIGGERS, 'trigger')
        }
    }

    private void stages(Statement statement) {
        List<Statement> found = statements(statement, 'stages')
        found ?: refuse(statement, 'No stages specified')
        found.each { stage(it) }
    }

    private void stage(Statement statement) {
        MethodCallExpression call = callOf(statement)
        if (call?.methodAsString != 'stage') {
            refuse(statement, 'Expected a stage')
            return
        }
        List<Expression> arguments = call.arguments.expressions
        if (arguments.size() != 2 || !(arguments[0] instanceof ConstantExpression)
            || !(arguments[1] instanceof ClosureExpression)) {
            refuse(statement, 'A stage takes a name, as a plain string, and a block')
            return
        }
        stageNames.add(arguments[0].text) ?: refuse(statement, "Duplicate stage name: \"${arguments[0].text}\"")
        Map<String, Statement> seen = sections(statement, STAGE, 'Unknown stage section')
        List<String> work = seen.keySet().findAll { it in WORK } as List
        if (work.size() != 1) {
            refuse(statement, "A stage has one of ${WORK.join(', ')}; this one: ${work.join(', ') ?: 'none'}")
        }
        if (seen.agent && work == ['parallel']) {
            refuse(seen.agent, '"agent" is not allowed in a stage with "parallel"')
        }
        seen.agent && agent(seen.agent)
        seen.steps && steps(statements(seen.steps, 'steps'), seen.steps)
        seen.stages && stages(seen.stages)
        seen.parallel && stages(seen.parallel)
        seen.environment && environment(seen.environment)
        seen.post && post(seen.post)
        seen.options && options(seen.options, WRAPPERS)
        seen.when && when(seen.when)
        seen.input && input(seen.input)
    }

    private void agent(Statement statement) {
        MethodCallExpression call = callOf(statement)
        List<Expression> arguments = call.arguments.expressions
        if (arguments.size() != 1) {
            refuse(statement, 'agent takes one argument')
        } else if (arguments[0] instanceof VariableExpression) {
            arguments[0].name in ['none', 'any'] ?: refuse(statement, "Invalid agent \"${arguments[0].name}\"")
        } else if (arguments[0] instanceof ClosureExpression) {
            List<Statement> kinds = calls(statement, 'agent')
            kinds.size() == 1 ?: refuse(statement, 'Only one agent type is allowed per agent section')
            kinds.each { Statement kind ->
                if (known(kind, AGENTS.keySet(), 'agent type') && block(kind)) {
                    calls(kind, 'agent').each { known(it, AGENTS[callOf(kind).methodAsString], 'field of the agent') }
                }
            }
        } else {
            refuse(statement, 'Invalid agent')
        }
    }

    private void environment(Statement statement) {
        Set<String> names = []
        List<Statement> found = statements(statement, 'environment')
        found ?: refuse(statement, 'No variables specified for environment')
        found.each { Statement each ->
            Expression assignment = each instanceof ExpressionStatement ? each.expression : null
            if (!(assignment instanceof BinaryExpression) || assignment.operation.type != Types.EQUAL
                || !(assignment.leftExpression instanceof VariableExpression)) {
                refuse(each, 'Expected name=value pairs')
                return
            }
            names.add(assignment.leftExpression.name)
                ?: refuse(each, "Duplicate environment variable name: \"${assignment.leftExpression.name}\"")
            value(assignment.rightExpression)
                ?: refuse(each, 'Environment variable values must be strings or function calls')
        }
    }

    private static boolean value(Expression value) {
        if (value instanceof BinaryExpression) {
            return value.operation.type == Types.PLUS && [value.leftExpression, value.rightExpression].every {
                Validator.value(it)
            }
        }
        return value instanceof ConstantExpression || value instanceof GStringExpression || value instanceof MethodCallExpression
    }

    private void post(Statement statement) {
        List<Statement> found = calls(statement, 'post')
        found ?: refuse(statement, 'No conditions specified for post')
        Set<String> seen = []
        found.each { Statement each ->
            if (known(each, CONDITIONS, 'condition of post')) {
                seen.add(callOf(each).methodAsString) ?: refuse(each, "Duplicate condition \"${callOf(each).methodAsString}\"")
                steps(statements(each, callOf(each).methodAsString), each)
            }
        }
    }

    private void options(Statement statement, Set<String> allowed) {
        List<Statement> found = calls(statement, 'options')
        found ?: refuse(statement, 'options may not be empty')
        found.each { Statement each ->
            block(each) && refuse(each, 'options cannot have blocks')
            early(each)
            if (known(each, allowed, 'option') && callOf(each).methodAsString in STEPS) {
                parameters(callOf(each), STEPS[callOf(each).methodAsString] - '*')
            }
        }
    }

    // Options and input are read when the build starts: what a stage assigns later is not in them.
    private void early(Statement statement) {
        Validator outer = this
        statement.visit(new CodeVisitorSupport() {
            void visitVariableExpression(VariableExpression expression) {
                expression.name in ['params', 'this'] ?: outer.refuse(statement, "only params are known here, not ${expression.name}")
            }
        })
    }

    private void parameters(Statement statement) {
        List<Statement> found = calls(statement, 'parameters')
        found ?: refuse(statement, 'parameters may not be empty')
        found.each { Statement each ->
            if (known(each, PARAMETERS.keySet(), 'parameter type')) {
                parameters(callOf(each), PARAMETERS[callOf(each).methodAsString] as List)
                'name' in named(callOf(each)).keySet() ?: refuse(each, 'Missing required parameter: "name"')
            }
        }
    }

    private void when(Statement statement) {
        List<Statement> found = calls(statement, 'when')
        List<Statement> conditions = found.findAll { !(callOf(it).methodAsString in BEFORE) }
        conditions ?: refuse(statement, 'Empty when')
        (found - conditions).each { Statement each ->
            List<Expression> arguments = callOf(each).arguments.expressions
            if (arguments.size() != 1 || !(arguments[0] instanceof ConstantExpression)
                || !(arguments[0].value instanceof Boolean)) {
                refuse(each, "Expected a boolean with ${callOf(each).methodAsString}")
            }
        }
        conditions.each { condition(it) }
    }

    private void condition(Statement statement) {
        if (known(statement, WHEN, 'condition of when') && callOf(statement).methodAsString in ['not', 'allOf', 'anyOf']) {
            List<Statement> nested = calls(statement, 'when')
            nested ?: refuse(statement, "${callOf(statement).methodAsString} needs a condition")
            callOf(statement).methodAsString == 'not' && nested.size() > 1 && refuse(statement, 'not takes one condition')
            nested.each { condition(it) }
        }
    }

    private void input(Statement statement) {
        Map<String, Statement> seen = sections(statement, INPUT, 'Invalid field of input')
        'message' in seen ?: refuse(statement, 'Missing required field of input: "message"')
        seen.parameters && parameters(seen.parameters)
        seen.values().each { early(it) }
        seen.findAll { name, each -> name != 'parameters' }.each { name, each ->
            List<Expression> arguments = callOf(each).arguments.expressions
            if (arguments.size() != 1 || !(arguments[0] instanceof ConstantExpression || arguments[0] instanceof GStringExpression)) {
                refuse(each, "${name} of input takes one string")
            }
        }
    }

    private void steps(List<Statement> found, Statement statement) {
        found ?: refuse(statement, 'No steps specified')
        found.each { Statement each ->
            MethodCallExpression step = callOf(each)
            if (step == null) {
                refuse(each, 'Expected a step')
                return
            }
            if (step.methodAsString == 'script') {
                return
            }
            ClosureExpression body = block(each)
            body && steps(asList(body.code), each)
        }
    }

    /** Anywhere in the file: only expressions that Groovy 2.4 has as well, only known steps, only what the sandbox allows. */
    private void language(Statement code) {
        Validator outer = this
        code.visit(new CodeVisitorSupport() {
            void visitMethodCallExpression(MethodCallExpression call) {
                outer.methodCall(call)
                super.visitMethodCallExpression(call)
            }

            void visitLambdaExpression(LambdaExpression expression) { outer.refuse(expression, 'lambda') }

            void visitMethodReferenceExpression(MethodReferenceExpression expression) { outer.refuse(expression, 'method reference') }

            void visitMethodPointerExpression(MethodPointerExpression expression) { outer.refuse(expression, 'method pointer') }

            void visitConstructorCallExpression(ConstructorCallExpression expression) { outer.refuse(expression, 'constructor') }

            void visitExpressionStatement(ExpressionStatement statement) {
                if (!EXPRESSIONS.any { it.isInstance(statement.expression) }) {
                    outer.refuse(statement, statement.expression.getClass().simpleName)
                }
                super.visitExpressionStatement(statement)
            }

            void visitBinaryExpression(BinaryExpression expression) {
                if (expression.operation.text in ['!in', '!instanceof', '===', '!==', '?=']) {
                    outer.refuse(expression, "operator ${expression.operation.text}")
                }
                super.visitBinaryExpression(expression)
            }
        })
    }

    void methodCall(MethodCallExpression call) {
        String name = call.methodAsString
        if (!call.implicitThis) {
            name in METHODS ?: refuse(call, "the sandbox does not let a script call \"${name}\"")
        } else if (name in STEPS && !(name in PARAMETERS)) {
            parameters(call, STEPS[name])
        }
        if (name in ['sh', 'bat', 'powershell', 'pwsh']) {
            Expression script = named(call)['script'] ?: positional(call)[0]
            shells << [line: call.lineNumber, constant: script instanceof ConstantExpression]
        }
    }

    private void parameters(MethodCallExpression call, List<String> allowed) {
        named(call).keySet().findAll { !(it in allowed) }.each {
            refuse(call, "Invalid parameter \"${it}\" of ${call.methodAsString}, did you mean ${allowed - '*'}?")
        }
        Map<String, Object> constants = named(call).findAll { name, value -> value instanceof ConstantExpression }
        wrongTypes(call.methodAsString, constants.collectEntries { name, value -> [name, value.value] }).each { refuse(call, it) }
        List<Expression> unnamed = positional(call).findAll { !(it instanceof ClosureExpression) }
        if (unnamed.size() > 1 || unnamed && named(call)) {
            refuse(call, "Too many unnamed parameters of ${call.methodAsString}; only one may stand without its name")
        }
        Map<String, Object> single = unnamed && unnamed[0] instanceof ConstantExpression
            ? [(allowed.find { it != '*' }): unnamed[0].value] : [:]
        wrongTypes(call.methodAsString, single).each { refuse(call, it) }
    }

    private boolean known(Statement statement, Collection<String> allowed, String kind) {
        String name = callOf(statement)?.methodAsString
        if (name in allowed) {
            return true
        }
        refuse(statement, "Invalid ${kind} \"${name}\". Valid: ${allowed.join(', ')}")
        return false
    }

    /** The directives of a block, each of which may stand there once. */
    private Map<String, Statement> sections(Statement statement, Set<String> allowed, String complaint) {
        Map<String, Statement> seen = [:]
        calls(statement, callOf(statement).methodAsString).each { Statement each ->
            String name = callOf(each).methodAsString
            name in allowed ?: refuse(each, "${complaint} \"${name}\"")
            seen.put(name, each) && refuse(each, "Multiple occurrences of the ${name} section")
        }
        return seen.findAll { name, each -> name in allowed }
    }

    private List<Statement> calls(Statement statement, String owner) {
        List<Statement> found = statements(statement, owner)
        found.findAll { callOf(it) == null }.each { refuse(it, "Not a valid definition in ${owner}: ${it.text}") }
        return found.findAll { callOf(it) != null }
    }

    private List<Statement> statements(Statement statement, String owner) {
        ClosureExpression body = block(statement)
        body ?: refuse(statement, "Expected a block for ${owner}")
        return body ? asList(body.code) : []
    }

    private static List<Statement> asList(Statement code) {
        return code instanceof BlockStatement ? code.statements.findAll { !it.empty } : [code]
    }

    private static MethodCallExpression callOf(Statement statement) {
        Expression expression = statement instanceof ExpressionStatement ? statement.expression : null
        return expression instanceof MethodCallExpression && expression.implicitThis ? expression : null
    }

    private static ClosureExpression block(Statement statement) {
        List<Expression> arguments = callOf(statement)?.arguments?.expressions ?: []
        return arguments && arguments[-1] instanceof ClosureExpression ? arguments[-1] : null
    }

    private static Map<String, Expression> named(MethodCallExpression call) {
        return call.arguments.expressions.findAll { it instanceof MapExpression }
            .collectMany { it.mapEntryExpressions }.collectEntries { [it.keyExpression.text, it.valueExpression] }
    }

    private static List<Expression> positional(MethodCallExpression call) {
        return call.arguments.expressions.findAll { !(it instanceof MapExpression) }
    }

    void refuse(node, Object complaint) {
        errors << "line ${node.lineNumber}: ${complaint}".toString()
    }
}
