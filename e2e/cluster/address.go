package cluster

// HostIP is the address at which pods and nodes reach this machine.
const HostIP = hostIP
