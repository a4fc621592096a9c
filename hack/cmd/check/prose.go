package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/agentlet/agentlet/hack/doctest"
)

// checkProse prints each page's number of words, and everything that has to change in the pages.
func checkProse(_ context.Context, t *tree) error {
	prose, err := doctest.CheckProse(t.root)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	pages := slices.SortedFunc(maps.Keys(prose.Words), func(a, b string) int {
		return cmp.Or(prose.Words[b]-prose.Words[a], strings.Compare(a, b))
	})
	for _, page := range pages {
		fmt.Fprintf(table, "%d\t  %s\n", prose.Words[page], page)
	}
	fmt.Fprintf(table, "%d\t  words in all, of at most %d\n", prose.Total, doctest.MaxWords)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print words: %w", err)
	}
	for _, finding := range prose.Findings {
		fmt.Println(finding)
	}
	if len(prose.Findings) > 0 || prose.Total > doctest.MaxWords {
		return fmt.Errorf("%d findings, and %d words: want none, and at most %d", len(prose.Findings), prose.Total, doctest.MaxWords)
	}
	return nil
}
