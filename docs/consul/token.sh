consul acl policy create -name agentlet-web -rules @registrar.hcl
consul acl token create -description 'pods of shop' -policy-name agentlet-web -format json | sed -n 's/.*"SecretID": "\(.*\)".*/\1/p' >token
kubectl create secret generic consul-token -n shop --from-file=token
rm token
