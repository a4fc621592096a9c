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

// Memory that all reviews of a process may take at once, in bytes. Whoever reaches the port can send any number of
// bodies, so each waits until there is room for it. Together these are a third of the memory limit that the chart sets.
// A body that no room would be large enough for is not decoded.
const (
	// roomForBodies is for bodies over smallBody while they arrive and until they are answered. It holds one of the largest.
	roomForBodies = maxBody + 1<<20
	// roomForReviews is for what is made of bodies, each of which costs at most smallCost. An ordinary pod costs three
	// quarters of that.
	roomForReviews = 16 << 20
	smallCost      = 4 << 20
	// roomForLargeReviews is for what costs more. So ordinary reviews never wait for large ones.
	roomForLargeReviews = 24 << 20
)

// What a review takes beyond its body, at the most, until it is answered. A test measures it for the bodies that take the most.
const (
	// costBase is for the annotations' texts, which registration bounds, and for the answer.
	costBase = 3 << 20
	// costByte is for a byte of the body: a text is copied, and so is a template.
	costByte = 4
	// costMember is for a member of an object: an item of a map.
	costMember = 256
	// costItem is for an item of a list, which may be two bytes long and stands for a structure.
	costItem = 768
	// costContainer is for a container's hook, in the patch.
	costContainer = 3 << 10
)

// maxDepth bounds how deep objects and lists may be nested, and maxNumber how long a number may be. Those of a pod have a
// third of it.
const (
	maxDepth  = 64
	maxNumber = 64
)

var (
	errDepth  = fmt.Errorf("its objects and lists are nested more than %d deep", maxDepth)
	errNumber = fmt.Errorf("it holds a number of more than %d characters", maxNumber)
	errUTF8   = errors.New("it is not UTF-8")
)

// costOf is what the review in a body may take in bytes, beyond the body. It looks at the outlines of the JSON alone, and
// need not be told that it is no JSON: nothing of that is kept. An error means that the body is not the API server's.
func costOf(body []byte) (int64, error) {
	if !utf8.Valid(body) { // to replace what is wrong takes more memory than all the rest
		return 0, errUTF8
	}
	var inLists, inObjects int64 // values
	lists, depth := uint64(0), 0 // a bit for each level: 1 is a list
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

// textLength is the length of the rest of a JSON text, with the quote at its end.
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

// memory is what is left of the rooms. All handlers of a server share it.
type memory struct {
	bodies, reviews, largeReviews *semaphore.Weighted
}

func newMemory() *memory {
	return &memory{
		bodies: semaphore.NewWeighted(roomForBodies), reviews: semaphore.NewWeighted(roomForReviews),
		largeReviews: semaphore.NewWeighted(roomForLargeReviews),
	}
}

// tooLargeError is of a body that may not be decoded.
type tooLargeError struct{ cost int64 }

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("the object is too large: to read it may take %d MiB of memory, and %d are the most that the webhook takes",
		e.cost>>20, roomForLargeReviews>>20)
}

var errBusy = errors.New("too many large objects are being read: try again")

// forReview waits until there is room for a review of that cost. The caller calls release when it is answered.
func (m *memory) forReview(ctx context.Context, cost int64) (release func(), err error) {
	switch {
	case cost > roomForLargeReviews:
		return nil, &tooLargeError{cost}
	case cost > smallCost:
		return take(ctx, m.largeReviews, cost)
	}
	return take(ctx, m.reviews, cost)
}

// forBody waits until there is room for a body of that size.
func (m *memory) forBody(ctx context.Context, size int64) (release func(), err error) {
	return take(ctx, m.bodies, size)
}

// take waits for half of the time that is left: the other half is for the answer.
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
