kubectl create namespace consul --dry-run=client -o yaml | kubectl apply -f -
kubectl create secret generic consul-gossip -n consul --from-literal=gossip.json='{"encrypt": "'"$(consul keygen)"'"}'
