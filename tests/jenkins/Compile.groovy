import com.cloudbees.groovy.cps.CpsTransformer
import org.codehaus.groovy.control.CompilerConfiguration

/** Compiles the files it is given as Jenkins compiles a Jenkinsfile: in Groovy 2.4, for continuation passing style. */
CompilerConfiguration configuration = new CompilerConfiguration()
configuration.addCompilationCustomizers(new CpsTransformer())
args.each { String path ->
    new GroovyShell(getClass().classLoader, new Binding(), configuration).parse(new File(path).getText('UTF-8'), 'Jenkinsfile')
}
