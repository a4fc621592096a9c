package injector

import (
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestRunAsUserErrors(t *testing.T) {
	const want = "--run-as-user: Invalid value: "
	for user, errs := range map[RunAsUser][]string{
		"": nil, "auto": nil, "none": nil, "1": nil, "1000650000": nil, "2147483647": nil,
		"0": {want + `"0"`}, "-1": {want + `"-1"`}, "2147483648": {want + `"2147483648"`},
		"nobody": {want + `"nobody": must be auto, none, or a number from 1 to 2147483647`}, "1e9": {want + `"1e9"`},
	} {
		t.Run(string(user), func(t *testing.T) {
			config := testConfig()
			config.RunAsUser = user
			judged(t, config, errs...)
		})
	}
}

// TestRunAsUser decides on a pod with a mesh proxy, whose own user is another one in each case.
func TestRunAsUser(t *testing.T) {
	root, other := int64(0), int64(1000)
	raw := readPod(t, filepath.Join("testdata", "connect"))
	for name, c := range map[string]struct {
		user RunAsUser
		pods *corev1.PodSecurityContext
		want int64 // 0: none
	}{
		"by default":                   {"", nil, 65532},
		"auto":                         {RunAsAuto, nil, 65532},
		"auto, the pod says another":   {RunAsAuto, &corev1.PodSecurityContext{RunAsUser: &other}, 65532},
		"none":                         {RunAsNone, nil, 0},
		"none, the pod says no user":   {RunAsNone, &corev1.PodSecurityContext{FSGroup: &other}, 0},
		"none, the pod says another":   {RunAsNone, &corev1.PodSecurityContext{RunAsUser: &other}, 0},
		"none, the pod says root":      {RunAsNone, &corev1.PodSecurityContext{RunAsUser: &root}, 65532},
		"a number":                     {"1000650000", nil, 1000650000},
		"a number, the pod says root":  {"1000650000", &corev1.PodSecurityContext{RunAsUser: &root}, 1000650000},
		"none, the group alone is one": {RunAsNone, &corev1.PodSecurityContext{RunAsGroup: &root}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.RunAsUser = c.user
			i, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			pod := decode(t, raw)
			pod.Spec.SecurityContext = c.pods
			patched := whole(t, apply(t, raw, i.Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})))
			found := 0
			for k := range patched.Spec.InitContainers {
				container := &patched.Spec.InitContainers[k]
				if container.Name != contract.ContainerName && container.Name != contract.ProxyContainerName {
					continue
				}
				found++
				checkRestrictedV2(t, container)
				for what, id := range map[string]*int64{"user": container.SecurityContext.RunAsUser, "group": container.SecurityContext.RunAsGroup} {
					if (id == nil) != (c.want == 0) || id != nil && *id != c.want {
						t.Errorf("%s has the %s %v, want %d", container.Name, what, id, c.want)
					}
				}
			}
			if found != 2 {
				t.Errorf("%d containers were added", found)
			}
			for k := range patched.Spec.Volumes {
				if v := &patched.Spec.Volumes[k]; v.Projected == nil && v.EmptyDir == nil {
					t.Errorf("restricted-v2 knows no such volume: %+v", v)
				}
			}
		})
	}
}

// checkRestrictedV2 checks what OpenShift's restricted-v2 and the Pod Security Standard restricted want of a container, but for its user.
func checkRestrictedV2(t *testing.T, c *corev1.Container) {
	t.Helper()
	s := c.SecurityContext
	if !*s.RunAsNonRoot || *s.AllowPrivilegeEscalation || s.Privileged != nil || len(s.Capabilities.Add) != 0 ||
		len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: %+v", c.Name, s)
	}
	for _, port := range c.Ports {
		if port.HostPort != 0 {
			t.Errorf("%s: %+v", c.Name, port)
		}
	}
}

// TestThePodsUserIsRead: the webhook decodes only the fields that the injector looks at.
func TestThePodsUserIsRead(t *testing.T) {
	security := newSecurityContexts(RunAsNone)
	pod := decode(t, readPod(t, filepath.Join("testdata", "root-user")))
	if got := security.in(pod).RunAsUser; got == nil || *got != agentletUser {
		t.Errorf("beside root: %v", got)
	}
}
