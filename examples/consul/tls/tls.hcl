# HTTP for the own host alone, HTTPS for all others.
addresses {
  http = "127.0.0.1"
}
ports {
  https = 8501
}
tls {
  defaults {
    ca_file         = "/consul/tls/ca.crt"
    cert_file       = "/consul/tls/tls.crt"
    key_file        = "/consul/tls/tls.key"
    verify_incoming = true
    verify_outgoing = true
  }
  # Pods have no certificates of their own.
  https {
    verify_incoming = false
  }
  internal_rpc {
    verify_server_hostname = true
  }
}
