package doctest

import (
	"fmt"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// Commands returns the words of every command in a shell script, including those in pipes, in substitutions and behind xargs. "X"
// replaces the value of a variable or a command.
func Commands(script string) (commands [][]string, err error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	if err != nil {
		return nil, fmt.Errorf("parse shell: %w", err)
	}
	syntax.Walk(file, func(node syntax.Node) bool {
		if call, ok := node.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			words := make([]string, 0, len(call.Args))
			for _, word := range call.Args {
				words = append(words, static(word.Parts))
			}
			commands = append(commands, words)
			if words[0] == "xargs" {
				if i := slices.IndexFunc(words[1:], func(w string) bool { return !strings.HasPrefix(w, "-") }); i >= 0 {
					commands = append(commands, words[1+i:])
				}
			}
		}
		return true
	})
	return commands, nil
}

func static(parts []syntax.WordPart) string {
	var out strings.Builder
	for _, part := range parts {
		switch part := part.(type) {
		case *syntax.Lit:
			out.WriteString(strings.ReplaceAll(part.Value, "\\\n", ""))
		case *syntax.SglQuoted:
			out.WriteString(part.Value)
		case *syntax.DblQuoted:
			out.WriteString(static(part.Parts))
		default:
			out.WriteString("X")
		}
	}
	return out.String()
}
