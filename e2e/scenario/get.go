package scenario

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// oneShot keeps no idle connections, because pods come and go.
var oneShot = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

// Get requests a URL over a new connection, with a timeout of ten seconds, and returns at most 4 MiB of the body. Any status but
// 200 is an error; the body is returned with it.
func Get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := oneShot.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return body, err
}
