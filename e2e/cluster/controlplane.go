package cluster

import (
	"fmt"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// controlPlane describes the control plane's processes. They run in the host's network namespace.
func (l layout) controlPlane(tools toolchain.Tools) []*Process {
	const etcdURL = "http://127.0.0.1:2379"
	return []*Process{
		l.control(tools, Etcd, etcdURL+"/health",
			"--name="+l.name,
			"--data-dir="+l.path("etcd"),
			"--listen-client-urls="+etcdURL,
			"--advertise-client-urls="+etcdURL,
			"--listen-peer-urls=http://127.0.0.1:2380",
			"--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster="+l.name+"=http://127.0.0.1:2380",
			"--unsafe-no-fsync", // the data need not survive a loss of power
		),
		l.control(tools, APIServer, apiServerURL+"/readyz",
			"--bind-address="+hostIP,
			"--advertise-address="+hostIP,
			"--secure-port=6443",
			"--etcd-servers="+etcdURL,
			"--tls-cert-file="+l.pki("apiserver.crt"),
			"--tls-private-key-file="+l.pki("apiserver.key"),
			"--client-ca-file="+l.pki("ca.crt"),
			"--token-auth-file="+l.tokensFile(),
			"--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction",
			"--admission-control-config-file="+l.webhooksDir()+"/admission.yaml",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file="+l.pki("service-accounts.key"),
			"--service-account-signing-key-file="+l.pki("service-accounts.key"),
			"--service-cluster-ip-range="+serviceCIDR,
			"--kubelet-client-certificate="+l.pki("apiserver-kubelet-client.crt"),
			"--kubelet-client-key="+l.pki("apiserver-kubelet-client.key"),
			"--kubelet-certificate-authority="+l.pki("ca.crt"),
			"--kubelet-preferred-address-types=InternalIP",
			"--enable-aggregator-routing=true", // call webhooks at their pods' addresses: the host has no kube-proxy
			"--allow-privileged=true",
			// Without a short grace period, open watches delay the shutdown by a minute.
			"--shutdown-watch-termination-grace-period=2s",
		),
		l.control(tools, ControllerManager, "https://127.0.0.1:10257/healthz",
			"--bind-address=127.0.0.1",
			"--kubeconfig="+l.kubeconfig(ControllerManager),
			"--root-ca-file="+l.pki("ca.crt"),
			"--cluster-signing-cert-file="+l.pki("ca.crt"),
			"--cluster-signing-key-file="+l.pki("ca.key"),
			"--service-account-private-key-file="+l.pki("service-accounts.key"),
			"--use-service-account-credentials=true",
			"--leader-elect=false",
		),
		l.control(tools, Scheduler, "https://127.0.0.1:10259/healthz",
			"--bind-address=127.0.0.1",
			"--kubeconfig="+l.kubeconfig(Scheduler),
			"--leader-elect=false",
		),
	}
}

// kubernetesProgram returns the path of a Kubernetes program of the release that tools was chosen for.
func kubernetesProgram(tools toolchain.Tools, name string) string {
	if _, oldest := tools[toolchain.KubernetesOldest]; oldest && name != Etcd {
		return tools.Program(toolchain.KubernetesOldest, name)
	}
	return tools.Program(toolchain.Kubernetes, name)
}

func (l layout) control(tools toolchain.Tools, name, url string, args ...string) *Process {
	return &Process{
		Name: name, Path: kubernetesProgram(tools, name), Args: args, Cgroup: l.controlCgroup(),
		Probe: probe{URL: url}, LogFile: l.logFile("", name), PIDFile: l.pidFile("", name),
	}
}

func (l layout) logFile(node, process string) string {
	return l.path("logs", qualified(node, process)+".log")
}

func (l layout) pidFile(node, process string) string { return l.path("pids", qualified(node, process)) }

// qualified returns a process's name that is unique in the cluster.
func qualified(node, process string) string {
	if node == "" {
		return process
	}
	return fmt.Sprintf("%s-%s", node, process)
}
