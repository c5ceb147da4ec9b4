// Judges new connections of a node's pods by the cluster's NetworkPolicies: the controller of kube-network-policies,
// which reads the packets that the node's packet filter hands it, as one of the node's programs. Upstream's command
// line reads only the configuration that a pod has, and would need an image.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	klog.InitFlags(nil)
	kubeconfig := flag.String("kubeconfig", "", "the way to the API server")
	node := flag.String("node", "", "the name of the node that this runs on")
	queue := flag.Int("queue", 0, "the number of the netfilter queue that new connections' packets come from")
	flag.Parse()
	if *node == "" || *queue == 0 {
		return fmt.Errorf("--node and --queue are needed")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return fmt.Errorf("kubeconfig %s: %w", *kubeconfig, err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("kubeconfig %s: %w", *kubeconfig, err)
	}
	watched := informers.NewSharedInformerFactory(clients, 0)
	controller, err := networkpolicy.NewController(
		clients,
		watched.Networking().V1().NetworkPolicies(),
		watched.Core().V1().Namespaces(),
		watched.Core().V1().Pods(),
		nil, nil, nil, nil, // what only the admin policies need
		// Asking the runtime about pods stays on although ours does not answer: switched off, the controller of this
		// version panics at the first address that it does not know.
		networkpolicy.Config{QueueID: *queue, NodeName: *node},
	)
	if err != nil {
		return err
	}
	ended, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	watched.Start(ended.Done())
	return controller.Run(ended)
}
