package injector

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// SecurityContext holds fields of a container's security context in JSON. They replace those that the agentlet has without them,
// and null leaves one out. User and group are RunAsUser's. Empty: none.
type SecurityContext string

// flagSecurityContext sets it.
const flagSecurityContext = "security-context"

// over returns base with these fields. It changes base.
func (s SecurityContext) over(base *corev1.SecurityContext) (*corev1.SecurityContext, error) {
	if s == "" {
		return base, nil
	}
	// Names count as the API server takes them. To encoding/json a RUNASUSER would be a runAsUser.
	strict, err := kjson.UnmarshalStrict([]byte(s), base)
	if err := errors.Join(append(strict, err)...); err != nil {
		return nil, fmt.Errorf("must be fields of a container's security context in JSON: %w", err)
	}
	return base, nil
}

// validate checks the fields, and what the API server or the kubelet would refuse of the result: that would be each injected pod.
func (s SecurityContext) validate() (errs field.ErrorList) {
	at := flag(flagSecurityContext)
	c, err := s.over(restricted(new(int64(agentletUser))))
	if err != nil {
		return field.ErrorList{field.Invalid(at, string(s), err.Error())}
	}
	isTrue := func(b *bool) bool { return b != nil && *b }
	escalates := isTrue(c.Privileged)
	if c.Capabilities != nil {
		added := c.Capabilities.Add
		escalates = escalates || slices.Contains(added, "SYS_ADMIN") || slices.Contains(added, "CAP_SYS_ADMIN")
	}
	if escalates && c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation {
		errs = append(errs, field.Invalid(at.Child("allowPrivilegeEscalation"), false, "must be true with privileged or SYS_ADMIN"))
	}
	var given map[string]json.RawMessage
	_ = json.Unmarshal([]byte(s), &given) // it was decoded before
	for _, key := range []string{"runAsUser", "runAsGroup"} {
		if _, is := given[key]; is {
			errs = append(errs, field.Forbidden(at.Child(key), "set --run-as-user, which is also the mesh proxy's: the two share a token"))
		}
	}
	if p := c.SeccompProfile; p != nil {
		errs = append(errs, validateProfile(at.Child("seccompProfile"), string(p.Type), p.LocalhostProfile)...)
	}
	if p := c.AppArmorProfile; p != nil {
		errs = append(errs, validateProfile(at.Child("appArmorProfile"), string(p.Type), p.LocalhostProfile)...)
	}
	if c.ProcMount != nil && *c.ProcMount != corev1.DefaultProcMount && *c.ProcMount != corev1.UnmaskedProcMount {
		errs = append(errs, field.NotSupported(at.Child("procMount"), *c.ProcMount,
			[]corev1.ProcMountType{corev1.DefaultProcMount, corev1.UnmaskedProcMount}))
	}
	if c.WindowsOptions != nil {
		errs = append(errs, field.Forbidden(at.Child("windowsOptions"), "the agentlet runs on Linux"))
	}
	return errs
}

// validateProfile checks a profile of seccomp or AppArmor, whose types have the same names.
func validateProfile(at *field.Path, kind string, localhost *string) (errs field.ErrorList) {
	const ofNode = string(corev1.SeccompProfileTypeLocalhost)
	kinds := []string{string(corev1.SeccompProfileTypeRuntimeDefault), string(corev1.SeccompProfileTypeUnconfined), ofNode}
	switch {
	case !slices.Contains(kinds, kind):
		errs = append(errs, field.NotSupported(at.Child("type"), kind, kinds))
	case kind == ofNode && (localhost == nil || *localhost == ""):
		errs = append(errs, field.Required(at.Child("localhostProfile"), "with the type "+ofNode))
	case kind != ofNode && localhost != nil:
		errs = append(errs, field.Invalid(at.Child("localhostProfile"), *localhost, "counts with the type "+ofNode+" only"))
	}
	return errs
}
