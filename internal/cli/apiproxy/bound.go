package apiproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

const (
	// maxAnswer limits what is read of the answer of a pod, a node or Consul, in bytes. Honest answers are far smaller.
	maxAnswer = 1 << 20
	// maxList is the limit for the API server itself: 50,000 pods are about 500 MB.
	maxList = 1 << 30
)

// ErrTooLarge means that an answer has more than 1 MiB. The rest was not read.
var ErrTooLarge = errors.New("the answer holds more than 1 MiB")

// ErrRedirected means that an answer is a redirect. It is not followed, because the client would send the user's token to its
// target.
var ErrRedirected = errors.New("the answer is a redirect, which is not followed")

var errListTooLarge = errors.New("the API server's answer holds more than 1 GiB")

// BoundAPI limits a client of the API server. Answers through the server's proxies are limited as by Bound, because they don't
// come from the API server itself.
func BoundAPI(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if request.Context().Value(proxied{}) != nil {
			return Bound(next).RoundTrip(request)
		}
		return bounded(next, request, maxList, errListTooLarge)
	})
}

// Bound returns a transport that reads at most 1 MiB of an answer, and follows no redirects.
func Bound(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := bounded(next, request, maxAnswer, ErrTooLarge)
		if err == nil && response.StatusCode/100 == 3 && response.StatusCode != http.StatusNotModified {
			response.Body.Close()
			return nil, fmt.Errorf("%w: %d", ErrRedirected, response.StatusCode)
		}
		return response, err
	})
}

// proxied is the context key of requests that the API server forwards.
type proxied struct{}

func asProxied(ctx context.Context) context.Context { return context.WithValue(ctx, proxied{}, true) }

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func bounded(next http.RoundTripper, request *http.Request, most int64, tooLarge error) (*http.Response, error) {
	response, err := next.RoundTrip(request)
	if err == nil {
		response.Body = &body{ReadCloser: response.Body, left: most, tooLarge: tooLarge}
	}
	return response, err
}

// body limits how many bytes are read.
type body struct {
	io.ReadCloser
	left     int64
	tooLarge error
}

func (b *body) Read(into []byte) (int, error) {
	if int64(len(into)) > b.left+1 { // a byte more than allowed shows that the answer is too large
		into = into[:b.left+1]
	}
	n, err := b.ReadCloser.Read(into)
	if int64(n) > b.left {
		n, err = int(b.left), b.tooLarge
	}
	b.left -= int64(n)
	return n, err
}
