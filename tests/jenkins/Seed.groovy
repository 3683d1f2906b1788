/**
 * Runs a script of Job DSL, and keeps what it calls as a tree of [name, arguments, children]. A call has to be one that
 * Job DSL's reference knows at that place, as far as this repository's script goes.
 */
abstract class Seed extends Script {
    // By path: what may be called in a block. `*` is any item.
    static final Map<String, List<String>> REFERENCE = [
        '': ['folder', 'pipelineJob', 'multibranchPipelineJob'],
        'folder': ['description', 'displayName', 'properties', 'authorization'],
        'folder.properties': ['folderCredentialsProperty'],
        'folder.properties.folderCredentialsProperty': ['domainCredentials'],
        'folder.properties.folderCredentialsProperty.domainCredentials': ['domainCredentials'],
        'folder.properties.folderCredentialsProperty.domainCredentials.domainCredentials': ['domain', 'credentials'],
        'folder.properties.folderCredentialsProperty.domainCredentials.domainCredentials.domain': ['name', 'description'],
        'folder.properties.folderCredentialsProperty.domainCredentials.domainCredentials.credentials': ['string'],
        'folder.properties.folderCredentialsProperty.domainCredentials.domainCredentials.credentials.string':
            ['scope', 'id', 'description', 'secret'],
        'pipelineJob': ['description', 'displayName', 'parameters', 'properties', 'definition', 'logRotator', 'disabled'],
        'pipelineJob.parameters': ['choiceParam', 'stringParam', 'booleanParam', 'textParam'],
        'pipelineJob.properties': ['pipelineTriggers', 'disableConcurrentBuilds'],
        'pipelineJob.properties.pipelineTriggers': ['triggers'],
        'pipelineJob.properties.pipelineTriggers.triggers': ['cron', 'parameterizedCron'],
        'pipelineJob.properties.pipelineTriggers.triggers.parameterizedCron': ['parameterizedSpecification'],
        'pipelineJob.definition': ['cps', 'cpsScm'],
        'pipelineJob.definition.cpsScm': ['scm', 'scriptPath', 'lightweight'],
        'pipelineJob.definition.cpsScm.scm': ['git'],
        'pipelineJob.definition.cpsScm.scm.git': ['remote', 'branch', 'branches', 'extensions'],
        'pipelineJob.definition.cpsScm.scm.git.remote': ['url', 'credentials', 'name', 'refspec'],
        'multibranchPipelineJob': ['description', 'displayName', 'branchSources', 'orphanedItemStrategy', 'factory', 'triggers'],
        'multibranchPipelineJob.branchSources': ['git', 'branchSource'],
        'multibranchPipelineJob.branchSources.git': ['id', 'remote', 'credentialsId', 'includes', 'excludes'],
        'multibranchPipelineJob.orphanedItemStrategy': ['discardOldItems', 'defaultOrphanedItemStrategy'],
        'multibranchPipelineJob.orphanedItemStrategy.discardOldItems': ['daysToKeep', 'numToKeep'],
    ]

    Map<String, String> files = [:]
    final Block root = new Block('')

    String readFileFromWorkspace(String path) {
        String text = files[path]
        if (text == null) {
            throw new FileNotFoundException(path)
        }
        return text
    }

    def methodMissing(String name, arguments) { root.invokeMethod(name, arguments) }
}

/** A block of a script of Job DSL: records what is called in it. */
class Block extends GroovyObjectSupport {
    private final String path
    final List<Map> calls = []

    Block(String path) { this.path = path }

    def invokeMethod(String name, arguments) {
        if (!(name in Seed.REFERENCE[path])) {
            throw new MissingMethodException(name, Block, arguments as Object[])
        }
        List given = arguments as List
        Closure body = given && given[-1] instanceof Closure ? given[-1] : null
        Block inner = new Block(path ? "${path}.${name}".toString() : name)
        calls << [name: name, arguments: (body ? given.init() : given).collect { plain(it) }, children: inner.calls]
        if (body) {
            Closure copy = body.clone()
            copy.delegate = inner
            copy.resolveStrategy = Closure.DELEGATE_FIRST
            copy.call()
        }
        return null
    }

    private static plain(value) { value instanceof GString ? value.toString() : value }
}
