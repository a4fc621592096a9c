package toolchain

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// CacheRoot returns the folder for everything that is built or kept outside the tree: $AGENTLET_CACHE, or agentlet below the
// user's cache folder.
func CacheRoot() (string, error) {
	if root := os.Getenv("AGENTLET_CACHE"); root != "" {
		return filepath.Abs(root)
	}
	root, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	return filepath.Join(root, "agentlet"), nil
}

// Root finds the repository from the working directory or one of its parents; $AGENTLET_ROOT overrides that.
func Root() (string, error) {
	if root := os.Getenv("AGENTLET_ROOT"); root != "" {
		return filepath.Abs(root)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find working directory: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "hack", "tools", "kubernetes", "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the repository: not below it (set AGENTLET_ROOT)")
		}
		dir = parent
	}
}

// key returns a short hash of everything that determines the result of a build.
func key(parts ...[]byte) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d\n", len(part)) // the length distinguishes {"ab","c"} from {"a","bc"}
		hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12]
}
