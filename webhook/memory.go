package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"

	"github.com/agentlet/agentlet/injector/workload"
)

// Memory that all reviews of a process may take at once, in bytes. Any client that reaches the port can send any number of
// bodies, so each body waits for room. Together the rooms are a third of the memory limit that the chart sets. A body that
// is too large for every room is not decoded.
const (
	// roomForBodies is for bodies over smallBody, from their arrival until they are answered. It holds one of the largest.
	roomForBodies = maxBody + 1<<20
	// roomForReviews is for decoded bodies that cost at most smallCost each. An ordinary pod costs three quarters of that.
	roomForReviews = 16 << 20
	smallCost      = 4 << 20
	// roomForLargeReviews is for those that cost more, so that ordinary reviews never wait for large ones.
	roomForLargeReviews = 24 << 20
)

// Upper bounds of what a review takes beyond its body until it is answered. A test measures the most expensive bodies.
const (
	// costBase is for the answer and the annotations' texts, which registration bounds.
	costBase = 3 << 20
	// costByte is for a byte of the body, because texts and templates are copied.
	costByte = 4
	// costMember is for a member of an object, which becomes an item of a map.
	costMember = 256
	// costItem is for an item of a list, because two bytes can stand for a structure.
	costItem = 768
	// costContainer is for a container's hook, in the patch.
	costContainer = 3 << 10
)

// maxDepth bounds the nesting of objects and lists, and maxNumber the length of a number. A pod has a third of each.
const (
	maxDepth  = 64
	maxNumber = 64
)

var (
	errDepth  = fmt.Errorf("its objects and lists are nested more than %d deep", maxDepth)
	errNumber = fmt.Errorf("it holds a number of more than %d characters", maxNumber)
	errUTF8   = errors.New("it is not UTF-8")
)

// costOf estimates the bytes that the review in a body takes beyond the body. It reads only the structure of the JSON, and
// doesn't validate it, because invalid JSON is dropped. An error means that the body is not from an API server.
func costOf(body []byte) (int64, error) {
	if !utf8.Valid(body) { // replacing the invalid bytes takes more memory than all the rest
		return 0, errUTF8
	}
	var inLists, inObjects int64 // values
	lists, depth := uint64(0), 0 // one bit for each level: 1 is a list
	for i := 0; i < len(body); i++ {
		switch c := body[i]; c {
		case '"':
			i += textLength(body[i+1:])
		case '{', '[', ',':
			if c != ',' {
				if depth++; depth > maxDepth {
					return 0, errDepth
				}
				lists <<= 1
				if c == '[' {
					lists |= 1
				}
			}
			inLists += int64(lists & 1)
			inObjects += int64(^lists & 1)
		case '}', ']':
			lists >>= 1
			depth--
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			from := i
			for i+1 < len(body) && isNumber[body[i+1]] {
				i++
			}
			if i-from >= maxNumber {
				return 0, errNumber
			}
		}
	}
	cost := costBase + costByte*int64(len(body)) + costMember*inObjects + costItem*inLists
	return cost + costContainer*min(inLists, workload.MaxContainers), nil
}

// isNumber are the bytes of a number.
var isNumber = func() (is [256]bool) {
	for _, c := range "0123456789+-.eE" {
		is[c] = true
	}
	return is
}()

// textLength is the length of the rest of a JSON text, including the quote at its end.
func textLength(rest []byte) int {
	for end := 0; ; {
		quote := bytes.IndexByte(rest[end:], '"')
		if quote < 0 {
			return len(rest)
		}
		end += quote + 1
		escapes := 0
		for end-2-escapes >= 0 && rest[end-2-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return end
		}
	}
}

// memory holds the rooms that are left. All handlers of a server share it.
type memory struct {
	bodies, reviews, largeReviews *semaphore.Weighted
}

func newMemory() *memory {
	return &memory{
		bodies: semaphore.NewWeighted(roomForBodies), reviews: semaphore.NewWeighted(roomForReviews),
		largeReviews: semaphore.NewWeighted(roomForLargeReviews),
	}
}

// tooLargeError is the error of a body that is too large to decode.
type tooLargeError struct{ cost int64 }

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the object is too large: to read it may take %d MiB of memory, and %d are the most that the webhook takes",
		e.cost>>20, roomForLargeReviews>>20)
}

var errBusy = errors.New("too many large objects are being read: try again")

// forReview waits for room for a review of this cost. The caller calls release when the review is answered.
func (m *memory) forReview(ctx context.Context, cost int64) (release func(), err error) {
	switch {
	case cost > roomForLargeReviews:
		return nil, &tooLargeError{cost}
	case cost > smallCost:
		return take(ctx, m.largeReviews, cost)
	}
	return take(ctx, m.reviews, cost)
}

// forBody waits for room for a body of this size.
func (m *memory) forBody(ctx context.Context, size int64) (release func(), err error) {
	return take(ctx, m.bodies, size)
}

// take waits for at most half of the time that is left, because the answer needs the other half.
func take(ctx context.Context, from *semaphore.Weighted, size int64) (release func(), err error) {
	release = func() { from.Release(size) }
	if from.TryAcquire(size) {
		return release, nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	if from.Acquire(ctx, size) != nil {
		return nil, &requestError{statusTold, errBusy}
	}
	return release, nil
}
