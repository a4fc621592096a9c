package namespaces

import (
	"fmt"
	"log/slog"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// LogWarnings logs each opted-in namespace's annotations that have no effect, when it is read first and when its annotations
// change. Of the annotations that trim drops it knows nothing. defaults are the installation's. Call it before Run.
func (n *Namespaces) LogWarnings(log *slog.Logger, defaults registration.Defaults) error {
	record := func(object any) {
		namespace, ok := object.(*corev1.Namespace)
		if !ok {
			return
		}
		for _, w := range registration.LintNamespace(namespace.Annotations, defaults) {
			log.Warn("namespace annotation without effect", "namespace", namespace.Name, "warning", w.Message)
		}
	}
	_, err := n.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: record,
		UpdateFunc: func(before, now any) {
			if !maps.Equal(annotationsOf(before), annotationsOf(now)) {
				record(now)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("follow annotations of namespaces: %w", err)
	}
	return nil
}

func annotationsOf(object any) map[string]string {
	if namespace, ok := object.(*corev1.Namespace); ok {
		return namespace.Annotations
	}
	return nil
}
