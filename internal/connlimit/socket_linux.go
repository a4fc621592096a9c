package connlimit

import (
	"net"

	"golang.org/x/sys/unix"
)

// tcpClose is the state of a connection that is over, also by a reset.
const tcpClose = 7

// taken reports whether the peer's machine has acknowledged everything, the end of the connection among it, or can't any more.
func taken(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var info *unix.TCPInfo
	_ = raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	return err != nil || info == nil || info.State == tcpClose || info.Unacked == 0 && info.Notsent_bytes == 0
}
