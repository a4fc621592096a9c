package main

import (
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	for line, wrong := range map[string]string{
		"":                                   "",
		"-listen=:8080 -text=shop":           "",
		"true":                               "",
		"flood -to=192.0.2.1:1":              "",
		"register web":                       "",
		"drive http://192.0.2.1:1 web pod":   "",
		"drive http://192.0.2.1:1 web":       "want the Consul agent's URL",
		"drive http://192.0.2.1:1 web pod x": "want the Consul agent's URL",
		"serve":                              "want true, flood, drive",
	} {
		do, err := choose(strings.Fields(line))
		if (do != nil) != (wrong == "") || (err != nil) != (wrong != "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: chosen: %v, error %v; want %q", line, do != nil, err, wrong)
		}
	}
}
