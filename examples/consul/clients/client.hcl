data_dir       = "/consul/data"
retry_interval = "5s"

# A restarted agent comes back with what it had.
leave_on_terminate      = false
skip_leave_on_interrupt = true

# Pods on the node's network share its address, and those of a cluster that masquerades, too. Consul's default is 200.
limits {
  http_max_conns_per_client = 1000
}
ui_config {
  enabled = true
}
disable_update_check = true
