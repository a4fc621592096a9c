server           = true
bootstrap_expect = 3
data_dir         = "/consul/data"
retry_interval   = "5s"

# SIGTERM, which Kubernetes sends, is a restart. SIGINT is a leave; the preStop hook sends it to a server that was scaled down.
leave_on_terminate      = false
skip_leave_on_interrupt = false

# A server that is away for a while is waited for, and not given up.
autopilot {
  min_quorum = 3
}

# As Consul advises for production: another leader within seconds.
performance {
  raft_multiplier = 1
}

ui_config {
  enabled = true
}
disable_update_check = true
