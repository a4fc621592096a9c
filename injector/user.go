package injector

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// RunAsUser is the user of the containers that are added, and the group with that number: a number, or one of the words below;
// empty: RunAsAuto.
type RunAsUser string

// The words.
const (
	// RunAsAuto is agentletUser. Where the platform assigns users, the caller says RunAsNone instead: the injector knows no cluster.
	RunAsAuto RunAsUser = "auto"
	// RunAsNone sets neither user nor group: the platform, the pod or the image says them.
	RunAsNone RunAsUser = "none"
)

// Auto reports whether the caller has to ask the platform, as where nothing is said.
func (u RunAsUser) Auto() bool { return u == "" || u == RunAsAuto }

// agentletUser is the image's user and group, those of distroless' nonroot. The container sets them explicitly, because the
// pod may set others, or root.
const agentletUser = 65532

// id is the number to set; nil for none.
func (u RunAsUser) id() (id *int64, errs field.ErrorList) {
	switch {
	case u.Auto():
		return new(int64(agentletUser)), nil
	case u == RunAsNone:
		return nil, nil
	}
	number, err := strconv.ParseInt(string(u), 10, 64)
	if err != nil || number == 0 || len(validation.IsValidUserID(number)) > 0 {
		return nil, field.ErrorList{field.Invalid(flag("run-as-user"), u, "must be auto, none, or a number from 1 to 2147483647")}
	}
	return &number, nil
}

// securityContexts of the containers that are added. They are shared, and never modified.
type securityContexts struct{ usual, besideRoot *corev1.SecurityContext }

func newSecurityContexts(user RunAsUser) securityContexts {
	id, _ := user.id() // the errors are those of validate
	s := securityContexts{usual: restricted(id)}
	if s.besideRoot = s.usual; id == nil {
		s.besideRoot = restricted(new(int64(agentletUser)))
	}
	return s
}

// with returns them with other fields.
func (s securityContexts) with(fields SecurityContext) securityContexts {
	s.usual, _ = fields.over(s.usual.DeepCopy()) // the errors are those of validate
	s.besideRoot, _ = fields.over(s.besideRoot.DeepCopy())
	return s
}

// in is the security context for this pod. Where the pod says root for its containers, those that are added have a user of
// their own in any case, because the kubelet doesn't start root with runAsNonRoot. A platform that lets a pod choose root lets it
// choose this user, too.
func (s *securityContexts) in(pod *corev1.Pod) *corev1.SecurityContext {
	if of := pod.Spec.SecurityContext; of != nil && of.RunAsUser != nil && *of.RunAsUser == 0 {
		return s.besideRoot
	}
	return s.usual
}

// restricted complies with the Pod Security Standard of that name, whatever security context the pod has, and without an ID
// with OpenShift's restricted-v2.
func restricted(id *int64) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsNonRoot:             new(true),
		RunAsUser:                id,
		RunAsGroup:               id,
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}
