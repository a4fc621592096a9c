package manifests

import (
	"strings"
	"testing"
)

func TestShown(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "-": "-", "web.yaml": "web.yaml", "a@b/c.yaml": "a@b/c.yaml", "what?.yaml": "what?.yaml", "/abs/web.yaml": "/abs/web.yaml", `C:\web.yaml`: `C:\web.yaml`,
		"https://git.example/shop//base?ref=v1":                    "https://git.example/shop//base",
		"https://SECRET@git.example/shop":                          "https://git.example/shop",
		"https://SECRET:@git.example/shop":                         "https://git.example/shop",
		"HTTPS://me:SECRET@git.example:8443/shop#SECRET":           "HTTPS://git.example:8443/shop",
		"https://git.example/pkg@1.2/web.yaml?SECRET":              "https://git.example/pkg@1.2/web.yaml",
		"https://me:SECRET/1@git.example/shop?token=SECRET":        "https://git.example/shop",
		"https://me:SECRET^%@git.example/shop":                     "https://git.example/shop",
		"https://me:SECRET?x@git.example/shop":                     "https://(hidden)",
		"https://[::1]:8443/a%20b?token=SECRET":                    "https://[::1]:8443/a%20b",
		"git::https://me:SECRET@git.example/shop?ref=v1":           "git::https://git.example/shop",
		"GIT::https://SECRET@git.example/shop?ref=v1&token=SECRET": "GIT::https://git.example/shop",
		"git::me:SECRET@git.example/shop":                          "git::git.example/shop",
		"git::git@git.example:shop.git?ref=v1":                     "git::git.example:shop.git",
		"ssh://git@git.example:shop/web.git?token=SECRET":          "ssh://git.example:shop/web.git",
		"git@git.example:shop.git?ref=v1":                          "git@git.example:shop.git",
		"me:SECRET@git.example/shop?ref=v1":                        "git.example/shop",
		"github.com/shop/web?ref=v1&token=SECRET":                  "github.com/shop/web",
	} {
		t.Run(name, func(t *testing.T) {
			if got := Shown(name); got != want {
				t.Errorf("want %q, got %q", want, got)
			}
		})
	}
}

func TestShownText(t *testing.T) {
	const name = "git::https://SECRETU:SECRETP@git.example/shop?ref=v1.2.34&token=SECRETQ"
	for text, want := range map[string]string{
		"no kustomization in 'overlays/prod'":                    "no kustomization in 'overlays/prod'",
		"read " + name + ": refused":                             "read git::https://git.example/shop: refused",
		"lstat /here/https:/SECRETU:SECRETP@git.example: absent": "lstat /here/https://git.example: absent",
		"fetch 'https://SECRETX@git.example/base?token=SECRETX'": "fetch 'https://git.example/base'",
		"no ref v1.2.34, says SECRETU with SECRETQ":              "no ref v1.2.34, says (hidden) with (hidden)",
	} {
		t.Run(want, func(t *testing.T) {
			if got := shownText(text, name); got != want || strings.Contains(got, "SECRET") {
				t.Errorf("want %q, got %q", want, got)
			}
		})
	}
}
