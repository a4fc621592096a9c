package cluster

import (
	"fmt"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// user is a user whom the API server authenticates by a token.
type user struct {
	file   string // of the kubeconfig
	name   string
	groups string
}

const adminFile = "admin"

func users(nodes int) []user {
	all := []user{
		{adminFile, "admin", "system:masters"},
		{ControllerManager, "system:kube-controller-manager", ""},
		{Scheduler, "system:kube-scheduler", ""},
		{KubeProxy, "system:kube-proxy", ""},
	}
	for node := 1; node <= nodes; node++ {
		all = append(all, user{nodeName(node), "system:node:" + nodeName(node), "system:nodes"})
	}
	return all
}

func (l layout) tokensFile() string { return l.pki("tokens.csv") }

// apiServerURL is the API server's address for all clients, the nodes included.
const apiServerURL = "https://" + hostIP + ":6443"

// writeUsers gives each user a new token and a kubeconfig.
func (l layout) writeUsers(nodes int) error {
	var tokens strings.Builder
	for _, u := range users(nodes) {
		token := newToken()
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, u.name, u.name, u.groups)
		config := clientcmdapi.NewConfig()
		config.Clusters[l.name] = &clientcmdapi.Cluster{Server: apiServerURL, CertificateAuthority: l.pki("ca.crt")}
		config.AuthInfos[u.file] = &clientcmdapi.AuthInfo{Token: token}
		config.Contexts[l.name] = &clientcmdapi.Context{Cluster: l.name, AuthInfo: u.file}
		config.CurrentContext = l.name
		if err := clientcmdapi.FlattenConfig(config); err != nil {
			return fmt.Errorf("embed certificate authority: %w", err)
		}
		content, err := clientcmd.Write(*config)
		if err != nil {
			return fmt.Errorf("encode kubeconfig: %w", err)
		}
		if err := writeFile(l.kubeconfig(u.file), content); err != nil {
			return err
		}
	}
	return writeFile(l.tokensFile(), []byte(tokens.String()))
}
