# Pods of the namespace shop may register the service that is named as their service account.
consul acl binding-rule create -method agentlet -bind-type service -bind-name '${serviceaccount.name}' -selector 'serviceaccount.namespace == "shop"'
