package main

import (
	"github.com/spf13/cobra"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"sigs.k8s.io/metrics-server/cmd/metrics-server/app/options"
	"sigs.k8s.io/metrics-server/pkg/api"
	generatedopenapi "sigs.k8s.io/metrics-server/pkg/api/generated/openapi"
)

// newMetricsCommand is metrics-server's own command, but for the names of its OpenAPI definitions.
func newMetricsCommand() *cobra.Command {
	given := options.NewOptions()
	command := &cobra.Command{
		Use: "metrics",
		RunE: func(command *cobra.Command, arguments []string) error {
			if errors := given.Validate(); len(errors) > 0 {
				return errors[0]
			}
			config, err := given.ServerConfig()
			if err != nil {
				return err
			}
			namer := openapinamer.NewDefinitionNamer(api.Scheme)
			config.Apiserver.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
			config.Apiserver.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
			config.Apiserver.OpenAPIConfig.Info.Version = "0"
			config.Apiserver.OpenAPIV3Config.Info.Version = "0"
			server, err := config.Complete()
			if err != nil {
				return err
			}
			return server.RunUntil(command.Context().Done())
		},
	}
	for _, flags := range given.Flags().FlagSets {
		command.Flags().AddFlagSet(flags)
	}
	return command
}

// definitions names metrics-server's definitions as Kubernetes 1.35 looks for them: by REST friendly names.
func definitions(reference common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	renamed := map[string]common.OpenAPIDefinition{}
	for name, definition := range generatedopenapi.GetOpenAPIDefinitions(reference) {
		renamed[name] = definition
		renamed[util.ToRESTFriendlyName(name)] = definition
	}
	return renamed
}
