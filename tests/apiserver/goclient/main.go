// Reads every route of the metrics API with the clients that the HPA controller is built on, and
// prints one JSON object: what each of them returned, or the error and whether it is "not found".
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	custom "k8s.io/metrics/pkg/client/custom_metrics"
	external "k8s.io/metrics/pkg/client/external_metrics"
)

type result struct {
	Value    any    `json:"value,omitempty"`
	Error    string `json:"error,omitempty"`
	NotFound bool   `json:"notFound,omitempty"`
}

func told(value any, err error) result {
	if err != nil {
		return result{Error: err.Error(), NotFound: apierrors.IsNotFound(err)}
	}
	return result{Value: value}
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "of the cluster")
	namespace := flag.String("namespace", "shop", "where the metrics are")
	flag.Parse()
	config := must(clientcmd.BuildConfigFromFlags("", *kubeconfig))
	disco := must(discovery.NewDiscoveryClientForConfig(config))
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco))
	// As kube-controller-manager makes them (cmd/kube-controller-manager/app/autoscaling.go).
	available := custom.NewAvailableAPIsGetter(disco)
	customs := custom.NewForConfig(config, mapper, available)
	externals := must(external.NewForConfig(config))

	out := map[string]result{}
	// Errors of single groups come back beside what could be read; there must be none.
	groups, lists, err := disco.ServerGroupsAndResources()
	served := map[string][]string{}
	for _, list := range lists {
		for _, one := range list.APIResources {
			served[list.GroupVersion] = append(served[list.GroupVersion], one.Name)
		}
	}
	out["discovery"] = told(served, err)
	out["groups"] = told(len(groups) > 0, err)
	preferred, err := available.PreferredVersion()
	out["preferred"] = told(preferred.String(), err)

	everything := labels.Everything()
	pods := schema.GroupKind{Kind: "Pod"}
	web := must(labels.Parse("app in (web, api), tier notin (batch), !debug"))
	read := func(name, metric string, selector labels.Selector) {
		found, err := externals.NamespacedMetrics(*namespace).List(metric, selector)
		out[name] = told(found, err)
	}
	read("external", "web-forecast", everything)
	read("externalSelected", "web-forecast", must(labels.Parse("scaler in (web), cell!=b")))
	read("externalNone", "web-forecast", must(labels.Parse("scaler=nobody")))
	read("externalStale", "stale", everything)
	read("externalUnknown", "unheard-of", everything)

	inside := customs.NamespacedMetrics(*namespace)
	many, err := inside.GetForObjects(pods, web, "http_requests", everything)
	out["pods"] = told(many, err)
	one, err := inside.GetForObject(pods, "web-0", "http_requests", everything)
	out["pod"] = told(one, err)
	one, err = inside.GetForObject(pods, "web-9", "http_requests", everything)
	out["podUnknown"] = told(one, err)
	one, err = inside.GetForObject(
		schema.GroupKind{Group: "apps", Kind: "Deployment"}, "web", "demand", must(labels.Parse("quantile=0.9")))
	out["deployment"] = told(one, err)
	one, err = inside.GetForObject(schema.GroupKind{Kind: "Service"}, "web", "stale", everything)
	out["serviceStale"] = told(one, err)
	root := customs.RootScopedMetrics()
	one, err = root.GetForObject(schema.GroupKind{Kind: "Namespace"}, *namespace, "queue", everything)
	out["namespace"] = told(one, err)
	one, err = root.GetForObject(schema.GroupKind{Kind: "Node"}, "node-1", "load", everything)
	out["node"] = told(one, err)
	many, err = root.GetForObjects(schema.GroupKind{Kind: "Node"}, everything, "load", everything)
	out["nodes"] = told(many, err)

	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
