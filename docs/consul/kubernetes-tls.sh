# Keep consul-agent-ca-key.pem in a safe place: who has it can make himself a server.
consul tls ca create
consul tls cert create -server
consul tls cert create -client
for agent in server client; do
  kubectl create secret generic consul-$agent-tls -n consul --from-file=ca.crt=consul-agent-ca.pem \
    --from-file=tls.crt=dc1-$agent-consul-0.pem --from-file=tls.key=dc1-$agent-consul-0-key.pem
done
