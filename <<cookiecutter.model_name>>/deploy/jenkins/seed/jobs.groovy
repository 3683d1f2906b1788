// Job DSL: for each repository of repositories.json a folder with the job that trains and releases, and a multibranch
// job that only tests. The folder `models` has to be there, with the credentials that all jobs share; this script does
// not touch it.
import groovy.json.JsonSlurperClassic

List<Map> repositories = new JsonSlurperClassic().parseText(readFileFromWorkspace('repositories.json'))

folder('models-tests') {
    description('Tests of branches, without credentials: whoever opens a pull request decides what runs here.')
}

repositories.each { Map repository ->
    folder("models/${repository.name}") {
        properties {
            folderCredentialsProperty {
                domainCredentials {
                    domainCredentials {
                        domain {
                            name('')
                            description('')
                        }
                        credentials {
                            string {
                                scope('GLOBAL')
                                id("${repository.name}-aws-role")
                                description('The role that the job assumes')
                                secret(repository.role)
                            }
                        }
                    }
                }
            }
        }
    }

    pipelineJob("models/${repository.name}/release") {
        description("Tests, trains and releases ${repository.name}.")
        // As in the Jenkinsfile, which a job reads only in its first build: so that one can be given an action, too.
        parameters {
            choiceParam('ACTION', [
                'test', 'train', 'train-if-needed', 'train-and-release', 'attach', 'stop-training',
                'deploy', 'promote', 'rollback', 'ghost-report', 'ghost-stop', 'status',
            ], '')
            choiceParam('ENVIRONMENT', ['staging', 'ghost', 'production'], '')
            stringParam('MODEL_VERSION', '', '')
            stringParam('BATCH_JOB', '', '')
            stringParam('DATASET', '', '')
            stringParam('EPOCHS', '', '')
            stringParam('BATCH_SIZE', '', '')
            stringParam('OTHER_PARAMETERS', '', '')
            booleanParam('FORCE_BUILD', false, '')
            stringParam('OVERRIDE_REASON', '', '')
            stringParam('GHOST_SAMPLE_RATE', '', '')
            stringParam('GHOST_SINCE', '24h', '')
        }
        if (repository.schedule) {
            properties {
                pipelineTriggers {
                    triggers {
                        parameterizedCron {
                            parameterizedSpecification(repository.schedule)
                        }
                    }
                }
            }
        }
        definition {
            cpsScm {
                scm {
                    git {
                        remote {
                            url(repository.url)
                        }
                        branch('main')
                    }
                }
                scriptPath('Jenkinsfile')
            }
        }
    }

    multibranchPipelineJob("models-tests/${repository.name}") {
        description("Tests every branch of ${repository.name}.")
        branchSources {
            git {
                id("${repository.name}-branches")
                remote(repository.url)
            }
        }
        orphanedItemStrategy {
            discardOldItems {
                numToKeep(20)
            }
        }
    }
}
