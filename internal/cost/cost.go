// Package cost counts what one pod costs Kubernetes and Consul. Tests hold the figures, and the docs are made of them.
package cost

import "time"

// What one pod with one service costs the two systems from its start to its end, as a test against Consul counts it. The
// application takes more than a second to become ready, and does so once.
const (
	// LifeRaftWrites are the registration with both checks, the readiness check's change to passing, and the deregistration.
	LifeRaftWrites = 3
	// LifeCatalogReads are what the servers are asked, beside them; all of them by the node's agent.
	LifeCatalogReads = 4
	// LifeStatusPatches write why the gate is closed, that it is open, and that the pod ends.
	LifeStatusPatches = 3
	// LifeEvents are of the open gate and of the drain.
	LifeEvents = 2
	// AgentConnections are those of a quiet pod at its node's agent, measured of 30 to 200 pods: one waits, one has the heartbeats.
	// Its start and end need no more. AgentConnectionsPeak are those of a pod that has to wait for the catalog, too.
	AgentConnections     = 2
	AgentConnectionsPeak = 3
)

// LifeRaftBytes are the entries of those writes in the raft log of Consul 1.22.7, for names of usual length: 2,886, 2,115 and
// 236.
const LifeRaftBytes = 5237

// FollowPause is the mean pause between two readings of a pod that follows the catalog while nothing waits for it, where
// each is answered at once.
const FollowPause = 7500 * time.Millisecond
