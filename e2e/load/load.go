// Package load sends requests to a service like a client of Consul. It follows the passing instances with a blocking query, and
// opens a new connection for each request, at a steady rate that doesn't depend on the answers.
package load

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
)

// Client sends requests to one service.
type Client struct {
	consul  []*api.Client
	service string
	// Failed, if not nil, is called for each failed request, concurrently.
	Failed func(Failure)

	mu        sync.Mutex
	instances []string
	requests  atomic.Int64
	failed    atomic.Int64
	errors    map[string]int
}

// Failure is a request that failed.
type Failure struct {
	Began, Ended time.Time
	// Instance is the target's address; empty if there was no instance.
	Instance string
	Err      error
}

// New returns a client that follows the service at a Consul agent or server. If it is given several, it switches to the next one
// when one doesn't answer.
func New(consul *api.Client, service string, others ...*api.Client) *Client {
	return &Client{consul: append([]*api.Client{consul}, others...), service: service, errors: map[string]int{}}
}

// Fixed returns a client that sends to one address, for example a virtual IP.
func Fixed(address string) *Client {
	return &Client{instances: []string{address}, errors: map[string]int{}}
}

// Counts returns the number of requests so far, and of those that failed.
func (c *Client) Counts() (requests, failed int64) { return c.requests.Load(), c.failed.Load() }

// Check returns an error if a request failed, or if none was sent.
func (c *Client) Check() error {
	if requests, failed := c.Counts(); failed > 0 || requests == 0 {
		return fmt.Errorf("%d of %d requests failed: %v", failed, requests, c.Errors())
	}
	return nil
}

// Errors returns the number of failures by error.
func (c *Client) Errors() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.errors)
}

// Instances returns the addresses to which the client sends requests now.
func (c *Client) Instances() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.instances...)
}

// Follow updates the list of instances until ctx ends. It returns after the first list, which may be empty.
func (c *Client) Follow(ctx context.Context) error {
	index, err := c.look(ctx, c.consul[0], 0)
	if err != nil {
		return fmt.Errorf("look up %s: %w", c.service, err)
	}
	go func() {
		for at := 0; ctx.Err() == nil; {
			next, err := c.look(ctx, c.consul[at], index)
			if err == nil {
				index = next
				continue
			}
			if len(c.consul) > 1 {
				at, index = (at+1)%len(c.consul), 0 // another server may have another state, so reset the index
			}
			timer := time.NewTimer(100 * time.Millisecond)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
	}()
	return nil
}

// Time limits of a query if there are other Consuls: a frozen one never answers.
const (
	lookWait    = 5 * time.Second
	lookTimeout = 8 * time.Second // Consul adds a sixteenth to the wait
)

func (c *Client) look(ctx context.Context, consul *api.Client, index uint64) (uint64, error) {
	query := &api.QueryOptions{WaitIndex: index}
	if len(c.consul) > 1 {
		query.WaitTime = lookWait
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lookTimeout)
		defer cancel()
	}
	entries, meta, err := consul.Health().Service(c.service, "", true, query.WithContext(ctx))
	if err != nil {
		return 0, err
	}
	instances := make([]string, len(entries))
	for i, entry := range entries {
		instances[i] = net.JoinHostPort(entry.Service.Address, strconv.Itoa(entry.Service.Port))
	}
	c.mu.Lock()
	c.instances = instances
	c.mu.Unlock()
	if meta.LastIndex < index {
		return 0, nil // the servers' state was restored: reset the index
	}
	return meta.LastIndex, nil
}

// requestTimeout is a request's time limit; a slower answer counts as a failure.
const requestTimeout = 3 * time.Second

// catchUp is how much of a pause, in which this process got no CPU time, is made up for at once.
const catchUp = 100 * time.Millisecond

// Run sends rate requests per second until ctx ends, or none if rate is 0, and returns after the last answer.
func (c *Client) Run(ctx context.Context, rate int) {
	if rate == 0 {
		return
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext},
		Timeout:   requestTimeout,
	}
	every := time.Second / time.Duration(rate)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var group sync.WaitGroup
	defer group.Wait()
	for due := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if behind := now.Add(-catchUp); due.Before(behind) {
			due = behind
		}
		for ; !due.After(now); due = due.Add(every) {
			// Don't cancel a request in flight at the end, or it would count as failed.
			group.Go(func() { c.request(context.WithoutCancel(ctx), client) })
		}
	}
}

func (c *Client) request(ctx context.Context, client *http.Client) {
	c.requests.Add(1)
	began := time.Now()
	if instance, err := c.get(ctx, client); err != nil {
		c.failed.Add(1)
		if c.Failed != nil {
			c.Failed(Failure{Began: began, Ended: time.Now(), Instance: instance, Err: err})
		}
		c.mu.Lock()
		c.errors[err.Error()]++
		c.mu.Unlock()
	}
}

func (c *Client) get(ctx context.Context, client *http.Client) (instance string, err error) {
	instances := c.Instances()
	if len(instances) == 0 {
		return "", fmt.Errorf("no passing instance of %s", c.service)
	}
	instance = instances[rand.IntN(len(instances))]
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+instance+"/", nil)
	if err != nil {
		return instance, err
	}
	response, err := client.Do(request)
	if err != nil {
		return instance, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return instance, err
	}
	if response.StatusCode != http.StatusOK {
		return instance, fmt.Errorf("answered %s", response.Status)
	}
	return instance, nil
}
