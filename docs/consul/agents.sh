# GOSSIP is the servers' gossip key, AGENT a token with node:write and service:read for every node, DC the datacenter (dc1). The files
# are the CA of the servers' certificates, and a certificate for clients, as consul tls makes them. With
# consulAgents.tls.autoEncrypt leave out the last line.
kubectl create namespace agentlet-system --dry-run=client -o yaml | kubectl apply -f -
kubectl create secret generic consul-gossip -n agentlet-system --from-literal=gossip.json='{"encrypt": "'"$GOSSIP"'"}'
kubectl create secret generic consul-agent-token -n agentlet-system \
  --from-literal=tokens.json='{"acl": {"tokens": {"agent": "'"$AGENT"'"}}}'
kubectl create secret generic consul-agent-tls -n agentlet-system --from-file=ca.crt=consul-agent-ca.pem \
  --from-file=tls.crt="${DC:-dc1}-client-consul-0.pem" --from-file=tls.key="${DC:-dc1}-client-consul-0-key.pem"
