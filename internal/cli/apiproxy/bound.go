package apiproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

const (
	// maxAnswer is the most that is read of what a pod, a node or Consul answers, in bytes; what is asked here says far less.
	maxAnswer = 1 << 20
	// maxList is the same for the API server itself: 50,000 pods are some 500 MB.
	maxList = 1 << 30
)

// ErrTooLarge is an answer of more than 1 MiB, of which the rest was not read.
var ErrTooLarge = errors.New("the answer holds more than 1 MiB")

// ErrRedirected is an answer that leads elsewhere. It is not followed: a client would take the person's token there.
var ErrRedirected = errors.New("the answer is a redirect, which is not followed")

var errListTooLarge = errors.New("the API server's answer holds more than 1 GiB")

// BoundAPI bounds a client of the API server. What it reads through the server's proxies, it reads as Bound does: whoever
// answers there is not the API server.
func BoundAPI(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if request.Context().Value(proxied{}) != nil {
			return Bound(next).RoundTrip(request)
		}
		return bounded(next, request, maxList, errListTooLarge)
	})
}

// Bound returns a transport that reads no more than 1 MiB of an answer, and follows no redirect.
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

// proxied is the key, in a request's context, of one that the API server hands on.
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

// body is one of which at most so many bytes are read.
type body struct {
	io.ReadCloser
	left     int64
	tooLarge error
}

func (b *body) Read(into []byte) (int, error) {
	if int64(len(into)) > b.left+1 { // one byte more than is left shows that there is more
		into = into[:b.left+1]
	}
	n, err := b.ReadCloser.Read(into)
	if int64(n) > b.left {
		n, err = int(b.left), b.tooLarge
	}
	b.left -= int64(n)
	return n, err
}
