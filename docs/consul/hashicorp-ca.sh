# Servers and agents shall trust the CAs in the files CA. The first signs their certificates; KEY is its key, where that changes.
cat $CA >trusted.crt
kubectl create secret generic consul-ca-cert --from-file=tls.crt=trusted.crt --dry-run=client -o json | jq '{data}' >trusted.json
kubectl patch secret consul-ca-cert -n consul --type=merge --patch-file=trusted.json
if [ -n "${KEY:-}" ]; then
  kubectl create secret generic consul-ca-key --from-file=tls.key="$KEY" --dry-run=client -o json | jq '{data}' |
    kubectl patch secret consul-ca-key -n consul --type=merge --patch-file=/dev/stdin
fi
