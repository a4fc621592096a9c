package connlimit

import (
	"net"

	"golang.org/x/sys/unix"
)

// tcpClose is the state of a closed connection, also after a reset.
const tcpClose = 7

// taken reports whether the peer's machine has acknowledged everything, including the FIN, or can no longer do so.
func taken(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var info *unix.TCPInfo
	_ = raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	return err != nil || info == nil || info.State == tcpClose || info.Unacked == 0 && info.Notsent_bytes == 0
}
