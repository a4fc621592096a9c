package policies

import (
	"fmt"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const webhookAccount = "system:serviceaccount:agentlet-system:agentlet-webhook"

// configuration returns a webhook configuration with as many webhooks as is realistic.
func configuration() *admissionregistrationv1.MutatingWebhookConfiguration {
	fail, path := admissionregistrationv1.Fail, "/mutate"
	c := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "agentlet", Labels: map[string]string{"a": "b"}}}
	for i := range 5 {
		c.Webhooks = append(c.Webhooks, admissionregistrationv1.MutatingWebhook{
			Name: fmt.Sprintf("w%d.agentlet.dev", i), FailurePolicy: &fail,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "agentlet-system", Name: "agentlet", Path: &path},
			},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{contract.InjectLabel: contract.InjectEnabled}},
		})
	}
	return c
}

func TestWebhookCerts(t *testing.T) {
	ignore, url := admissionregistrationv1.Ignore, "https://example.com"
	type object = *admissionregistrationv1.MutatingWebhookConfiguration
	cases := map[string]struct {
		change func(object)
		passes bool
	}{
		"the bundles": {func(c object) {
			for i := range c.Webhooks {
				c.Webhooks[i].ClientConfig.CABundle = make([]byte, 4096)
			}
		}, true},
		"nothing":     {func(object) {}, true},
		"a policy":    {func(c object) { c.Webhooks[1].FailurePolicy = &ignore }, false},
		"a selector":  {func(c object) { c.Webhooks[1].NamespaceSelector = nil }, false},
		"a rule":      {func(c object) { c.Webhooks[1].Rules = []admissionregistrationv1.RuleWithOperations{{}} }, false},
		"a condition": {func(c object) { c.Webhooks[1].MatchConditions = []admissionregistrationv1.MatchCondition{{}} }, false},
		"a service":   {func(c object) { c.Webhooks[1].ClientConfig.Service.Name = "other" }, false},
		"no service":  {func(c object) { c.Webhooks[1].ClientConfig.Service = nil }, false},
		"a URL":       {func(c object) { c.Webhooks[1].ClientConfig.URL = &url }, false},
		"a name":      {func(c object) { c.Webhooks[1].Name = "other" }, false},
		"one less":    {func(c object) { c.Webhooks = c.Webhooks[:1] }, false},
		"none":        {func(c object) { c.Webhooks = nil }, false},
		"one more":    {func(c object) { c.Webhooks = append(c.Webhooks, c.Webhooks[0]) }, false},
		"a label":     {func(c object) { c.Labels["a"] = "c" }, false},
		"an owner":    {func(c object) { c.OwnerReferences = []metav1.OwnerReference{{}} }, false},
	}
	each(t, "webhook-certs", func(t *testing.T, c compiled) {
		ask := func(who string, operation admission.Operation, old, now runtime.Object) []string {
			denials, cost := c.judge(t, request{
				operation: operation, kind: admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"),
				resource: "mutatingwebhookconfigurations", old: old, now: now, user: token(who, nil),
			})
			if cost > 1000000 {
				t.Errorf("it costs %d", cost)
			}
			return denials
		}
		for name, test := range cases {
			now := configuration()
			test.change(now)
			if denials := ask(webhookAccount, admission.Update, configuration(), now); len(denials) == 0 != test.passes {
				t.Errorf("%s: denied by %q", name, denials)
			}
			if denials := ask("admin", admission.Update, configuration(), now); len(denials) > 0 {
				t.Errorf("%s of another one: denied by %q", name, denials)
			}
		}
		if len(ask(webhookAccount, admission.Create, nil, configuration())) == 0 || len(ask(webhookAccount, admission.Delete, configuration(), nil)) == 0 {
			t.Error("it may create or delete one")
		}
	})
}

func TestWebhookSecrets(t *testing.T) {
	each(t, "webhook-secrets", func(t *testing.T, c compiled) {
		for name, test := range map[string]struct {
			who, secret string
			kind        corev1.SecretType
			passes      bool
		}{
			"its authority's":           {webhookAccount, "agentlet-webhook-ca", corev1.SecretTypeOpaque, true},
			"of no type":                {webhookAccount, "agentlet-webhook-ca", "", true},
			"an account's token":        {webhookAccount, "agentlet-webhook-ca", corev1.SecretTypeServiceAccountToken, false},
			"a release of Helm":         {webhookAccount, "sh.helm.release.v1.agentlet.v9", "helm.sh/release.v1", false},
			"any":                       {webhookAccount, "any", corev1.SecretTypeOpaque, false},
			"somebody else's":           {"admin", "any", corev1.SecretTypeOpaque, true},
			"another account's of that": {"system:serviceaccount:other:agentlet-webhook", "any", corev1.SecretTypeOpaque, true},
		} {
			denials, _ := c.judge(t, request{
				operation: admission.Create, kind: corev1.SchemeGroupVersion.WithKind("Secret"), resource: "secrets", user: token(test.who, nil),
				now: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "agentlet-system", Name: test.secret}, Type: test.kind},
			})
			if len(denials) == 0 != test.passes {
				t.Errorf("%s: denied by %q", name, denials)
			}
		}
	})
}

// TestWebhookMarksNoSecret checks that the webhook can't add metadata to a Secret. Helm considers every Secret with its labels a
// release, and an administrator's upgrade uses the latest one.
func TestWebhookMarksNoSecret(t *testing.T) {
	written := func(by string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "agentlet-system", Name: "agentlet-webhook-ca", Labels: map[string]string{"app.kubernetes.io/managed-by": by},
			},
			Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"tls.crt": []byte(by)},
		}
	}
	each(t, "webhook-secrets", func(t *testing.T, c compiled) {
		for name, test := range map[string]struct {
			change func(*corev1.Secret)
			passes bool
		}{
			"its data":         {func(s *corev1.Secret) { s.Data = map[string][]byte{"release": []byte("x")} }, true},
			"Helm's labels":    {func(s *corev1.Secret) { s.Labels["owner"], s.Labels["name"] = "helm", "agentlet" }, false},
			"an annotation":    {func(s *corev1.Secret) { s.Annotations = map[string]string{"a": "b"} }, false},
			"a finalizer":      {func(s *corev1.Secret) { s.Finalizers = []string{"example.com/stay"} }, false},
			"an owner":         {func(s *corev1.Secret) { s.OwnerReferences = []metav1.OwnerReference{{}} }, false},
			"without a change": {func(*corev1.Secret) {}, true},
		} {
			for _, operation := range []admission.Operation{admission.Create, admission.Update} {
				r := request{
					operation: operation, kind: corev1.SchemeGroupVersion.WithKind("Secret"), resource: "secrets", user: token(webhookAccount, nil),
				}
				now := written("agentlet-webhook")
				if operation == admission.Update {
					r.old = written("agentlet-webhook")
				}
				test.change(now)
				r.now = now
				if denials, _ := c.judge(t, r); len(denials) == 0 != test.passes {
					t.Errorf("%s, %s: denied by %q", operation, name, denials)
				}
			}
		}
		theirs, now := written("webhook"), written("webhook") // labels of others stay
		theirs.Labels["team"], now.Labels["team"] = "platform", "platform"
		if denials, _ := c.judge(t, request{
			operation: admission.Update, kind: corev1.SchemeGroupVersion.WithKind("Secret"), resource: "secrets", user: token(webhookAccount, nil),
			old: theirs, now: now,
		}); len(denials) > 0 {
			t.Errorf("labels of others: denied by %q", denials)
		}
	})
}

func TestWebhookGrants(t *testing.T) {
	binding := func(change func(*rbacv1.RoleBinding), accounts ...string) *rbacv1.RoleBinding {
		b := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "agentlet-pods"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "agentlet-pod"},
		}
		for _, account := range accounts {
			b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "shop", Name: account})
		}
		if change != nil {
			change(b)
		}
		return b
	}
	many := make([]string, 200)
	for i := range many {
		many[i] = fmt.Sprintf("account-%d", i)
	}
	each(t, "webhook-grants", func(t *testing.T, c compiled) {
		for name, test := range map[string]struct {
			operation admission.Operation
			old, now  *rbacv1.RoleBinding
			optedIn   bool
			passes    bool
		}{
			"a new one":                  {admission.Create, nil, binding(nil, "web"), true, true},
			"two hundred accounts":       {admission.Update, binding(nil, many[1:]...), binding(nil, many...), true, true},
			"one less without the label": {admission.Update, binding(nil, many...), binding(nil, many[1:]...), false, true},
			"one more without the label": {admission.Update, binding(nil, "web"), binding(nil, "web", "more"), false, false},
			"a new one without it":       {admission.Create, nil, binding(nil, "web"), false, false},
			"its end":                    {admission.Delete, binding(nil, "web"), nil, false, true},
			"another's end":              {admission.Delete, binding(func(b *rbacv1.RoleBinding) { b.Name = "theirs" }), nil, true, false},
			"another role":               {admission.Create, nil, binding(func(b *rbacv1.RoleBinding) { b.RoleRef.Name = "cluster-admin" }, "web"), true, false},
			"another kind":               {admission.Create, nil, binding(func(b *rbacv1.RoleBinding) { b.RoleRef.Kind = "Role" }, "web"), true, false},
			"a group":                    {admission.Create, nil, binding(func(b *rbacv1.RoleBinding) { b.Subjects[0].Kind = "Group" }, "web"), true, false},
			"another namespace's":        {admission.Create, nil, binding(func(b *rbacv1.RoleBinding) { b.Subjects[0].Namespace = "other" }, "web"), true, false},
		} {
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
			if test.optedIn {
				namespace.Labels = map[string]string{contract.InjectLabel: contract.InjectEnabled}
			}
			r := request{
				operation: test.operation, kind: rbacv1.SchemeGroupVersion.WithKind("RoleBinding"), resource: "rolebindings",
				user: token(webhookAccount, nil), namespace: namespace,
			}
			if test.old != nil {
				r.old = test.old
			}
			if test.now != nil {
				r.now = test.now
			}
			if denials, _ := c.judge(t, r); len(denials) == 0 != test.passes {
				t.Errorf("%s: denied by %q", name, denials)
			}
		}
	})
}
