consul {
  address = "127.0.0.1:8500" # the agent of its own machine
  retry {
    attempts = 0 # while Consul is away it tries again for ever; by default it ends after twelve times
  }
}

kill_signal = "SIGTERM" # which systemd and Kubernetes send; by default SIGINT alone ends it

template {
  source      = "/etc/consul-template/web.conf.ctmpl"
  destination = "/etc/nginx/conf.d/web.conf"
  command     = ["nginx", "-s", "reload"]

  # Changes that come close together are one reload: it waits for 100 ms without one, but never for more than 1 s.
  wait {
    min = "100ms"
    max = "1s"
  }
}
