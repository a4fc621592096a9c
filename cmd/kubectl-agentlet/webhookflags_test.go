package main

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"
)

func TestTheWebhooksFlagsHoldWhereNoneIsGiven(t *testing.T) {
	given := newWebhookFlags()
	flags := pflag.NewFlagSet("inject", pflag.ContinueOnError)
	given.addFlags(flags)
	namespace := flags.String("namespace", "shop", "")
	if err := flags.Parse([]string{"--cluster-name=mine", "--from-cluster"}); err != nil {
		t.Fatal(err)
	}
	err := take(flags, []string{
		"--listen=:9443", "--image=registry.example/agentlet:7", "--cluster-name=theirs", "--consul-port=8501",
		"--default=drain-delay=10s", "--default=gate=registered", "--allowed-services=shop-*", "--allowed-tags=!urlprefix-*", "--run-as-user=none", "--certs=self-signed", "--namespace=agentlet-system",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := given.config; c.Image != "registry.example/agentlet:7" || c.ClusterName != "mine" || c.AllowedServices != "shop-*" || c.AllowedTags != "!urlprefix-*" || c.RunAsUser != "none" || *namespace != "shop" {
		t.Errorf("%+v", given)
	}
	if !slices.Equal(given.defaults, []string{"drain-delay=10s", "gate=registered"}) {
		t.Errorf("%q", given.defaults)
	}
	if _, err := given.injector(); err != nil {
		t.Error(err)
	}
}

func TestGivenDefaultsReplaceTheWebhooks(t *testing.T) {
	given := newWebhookFlags()
	flags := pflag.NewFlagSet("inject", pflag.ContinueOnError)
	given.addFlags(flags)
	if err := flags.Parse([]string{"--default=drain-delay=1s"}); err != nil {
		t.Fatal(err)
	}
	if err := take(flags, []string{"--default=drain-delay=10s", "--default=gate=off"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(given.defaults, []string{"drain-delay=1s"}) {
		t.Errorf("%q", given.defaults)
	}
}
