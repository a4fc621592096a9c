package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/agentlet/agentlet/hack/toolchain"
)

func consulHTTP(ip string) string { return ip + ":8500" }

// consulProbe also accepts a Consul agent without a leader, because an agent alone can't elect one.
func consulProbe(ip string) probe {
	return probe{URL: "http://" + consulHTTP(ip) + "/v1/status/leader", AnyStatus: true}
}

// serverName returns the name of the n-th Consul server, counted from 1.
func serverName(n int) string {
	if n == 1 {
		return ConsulServer
	}
	return ConsulServer + "-" + strconv.Itoa(n)
}

// consulServers describes the processes of the Consul servers, which run on the host.
func (l layout) consulServers(tools toolchain.Tools, options Options) []*Process {
	if options.Consul != ConsulAgents {
		return nil
	}
	servers := []*Process{}
	for i, ip := range serverIPs(options.ConsulServers) {
		name := serverName(i + 1)
		servers = append(servers, &Process{
			Name: name, Path: tools.Program(toolchain.Consul, "consul"), Cgroup: l.controlCgroup(),
			Args: []string{"agent", "-config-file=" + l.path(name+".json")}, Probe: consulProbe(ip),
			LogFile: l.logFile("", name), PIDFile: l.pidFile("", name),
		})
	}
	return servers
}

func (l layout) writeServerConfigs(options Options) error {
	if options.Consul != ConsulAgents {
		return nil
	}
	for i, ip := range serverIPs(options.ConsulServers) {
		name := serverName(i + 1)
		err := writeConsulConfig(l.path(name+".json"), options, map[string]any{
			"node_name": name, "data_dir": l.path(name), "bind_addr": ip, "client_addr": ip,
			"server": true, "bootstrap_expect": options.ConsulServers, "ui_config": map[string]any{"enabled": true},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// writeConsulConfig writes an agent's configuration: the common defaults, its own settings, and those of the options.
func writeConsulConfig(path string, options Options, own map[string]any) error {
	config := map[string]any{
		"retry_join":           serverIPs(options.ConsulServers),
		"retry_interval":       "1s",
		"leave_on_terminate":   false, // keep the services across a restart of the agent
		"disable_update_check": true,
		// Allow many registrars behind one address; they would exceed the default of 200.
		"limits":      map[string]any{"http_max_conns_per_client": 2000},
		"performance": map[string]any{"raft_multiplier": 1}, // Consul's recommendation for production
		// Show counters since the start, in Prometheus' format. By default the agent shows only the last ten seconds.
		"telemetry": map[string]any{"prometheus_retention_time": "1h", "disable_hostname": true},
	}
	maps.Copy(config, own)
	maps.Copy(config, options.ConsulConfig)
	content, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("encode consul configuration: %w", err)
	}
	return writeFile(path, content)
}
