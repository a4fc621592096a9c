package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/agentlet/agentlet/e2e/programs/daemon"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// Nginx is a running nginx with its own folder, and with consul-template if that renders its upstreams.
type Nginx struct {
	// Address is where it accepts requests, on the loopback interface. The header Upstream of its answers names the upstream that
	// answered.
	Address  string
	dir      string
	program  string
	server   *daemon.Daemon
	template *daemon.Daemon
}

// findNginx returns the path of nginx. If it is not installed, the program is taken from Debian's package, without installing
// that, because the installation would start a server.
func findNginx(ctx context.Context) (string, error) {
	if program, err := exec.LookPath("nginx"); err == nil {
		return program, nil
	}
	dir, err := toolchain.Debian(ctx, "nginx")
	return filepath.Join(dir, "usr/sbin/nginx"), err
}

// nginxConfig corresponds to Debian's own configuration, but keeps all files in nginx's folder. A failed request is not retried
// at another upstream, so that each failure is visible.
const nginxConfig = `daemon off;
pid nginx.pid;
error_log error.log notice;
events {}
http {
    access_log off;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    proxy_next_upstream off;
    add_header Upstream $upstream_addr always;
    include conf.d/*.conf;
}
`

// newNginx prepares the folder. The configuration of a service belongs into its conf.d.
func newNginx(ctx context.Context, dir string) (*Nginx, error) {
	program, err := findNginx(ctx)
	if err != nil {
		return nil, err
	}
	address, err := daemon.FreeAddress(ctx)
	if err != nil {
		return nil, err
	}
	n := &Nginx{Address: address, dir: dir, program: program}
	if err := os.MkdirAll(filepath.Join(dir, "conf.d"), 0o700); err != nil {
		return nil, fmt.Errorf("make nginx's folder: %w", err)
	}
	return n, write(filepath.Join(dir, "nginx.conf"), nginxConfig)
}

// arguments returns nginx's arguments for its folder, and more.
func (n *Nginx) arguments(more ...string) []string {
	return append([]string{"-p", n.dir, "-e", "error.log", "-c", "nginx.conf"}, more...)
}

// start returns when nginx can be reloaded and accepts requests, if its configuration has an address.
func (n *Nginx) start(ctx context.Context) (err error) {
	ready := func(context.Context) error { _, err := os.Stat(filepath.Join(n.dir, "nginx.pid")); return err }
	n.server, err = daemon.Start(ctx, ready, n.program, n.arguments()...)
	return err
}

// Rendered starts an nginx whose upstreams are a service's passing instances. consul-template renders them from the Consul at an
// HTTP address, and reloads nginx.
func Rendered(ctx context.Context, dir, consul, service string) (*Nginx, error) {
	n, err := newNginx(ctx, dir)
	if err != nil {
		return nil, err
	}
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.ConsulTemplate)
	if err != nil {
		return nil, err
	}
	template, err := Example("web.conf.ctmpl", `service "web"`, fmt.Sprintf("service %q", service), "listen 80", "listen "+n.Address)
	if err != nil {
		return nil, err
	}
	source, destination := filepath.Join(dir, "web.conf.ctmpl"), filepath.Join(dir, "conf.d", "web.conf")
	reload := fmt.Sprintf("%q", append([]string{n.program}, n.arguments("-s", "reload")...))
	config, err := Example("consul-template.hcl", "127.0.0.1:8500", consul, "/etc/consul-template/web.conf.ctmpl", source,
		"/etc/nginx/conf.d/web.conf", destination, `["nginx", "-s", "reload"]`, strings.ReplaceAll(reload, `" "`, `", "`))
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "consul-template.hcl")
	if err := errors.Join(write(source, template), write(file, config), n.start(ctx)); err != nil {
		return nil, err
	}
	n.template, err = daemon.Start(ctx, daemon.Listening(n.Address), tools.Program(toolchain.ConsulTemplate, "consul-template"),
		"-config="+file)
	if err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

// Resolving starts an nginx that resolves a service through Consul's DNS port.
func Resolving(ctx context.Context, dir, consul, service string) (*Nginx, error) {
	n, err := newNginx(ctx, dir)
	if err != nil {
		return nil, err
	}
	server, err := Example("resolver.conf", "127.0.0.1:8600", consul, "web.service.consul", service+".service.consul",
		"listen 80", "listen "+n.Address)
	if err != nil {
		return nil, err
	}
	return n, errors.Join(write(filepath.Join(dir, "conf.d", "web.conf"), server), n.start(ctx))
}

// Reloads returns how often nginx has reloaded its configuration.
func (n *Nginx) Reloads() (int, error) {
	log, err := os.ReadFile(filepath.Join(n.dir, "error.log"))
	if err != nil {
		return 0, fmt.Errorf("read nginx's log: %w", err)
	}
	return strings.Count(string(log), "reconfiguring"), nil
}

// Stop stops the programs that Rendered and Resolving have started.
func (n *Nginx) Stop() error {
	var errs []error
	for _, d := range []*daemon.Daemon{n.template, n.server} {
		if d != nil {
			errs = append(errs, d.Stop())
		}
	}
	return errors.Join(errs...)
}
