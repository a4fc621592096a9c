package release

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// materials writes the bill of materials: every module that is linked into a program, read from the program's build information.
func (r *release) materials(context.Context) error {
	modules := map[string]string{}
	toolchain := ""
	for _, p := range platforms() {
		for _, name := range p.programs() {
			info, err := buildinfo.ReadFile(r.program(p, name))
			if err != nil {
				return fmt.Errorf("read modules of %s for %s: %w", name, p, err)
			}
			toolchain = strings.TrimPrefix(info.GoVersion, "go")
			for _, module := range info.Deps {
				if module.Replace != nil {
					module = module.Replace
				}
				modules[module.Path] = module.Version
			}
		}
	}
	modules["stdlib"] = toolchain
	var out bytes.Buffer
	if err := spdxjson.Write(bill(r.Version, r.Created, modules), &out, spdxjson.Indent("  ")); err != nil {
		return fmt.Errorf("encode bill of materials: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.Out, billName(r.Version)), out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write bill of materials: %w", err)
	}
	return nil
}

// billName returns the name of the file with the bill of materials.
func billName(version string) string { return "agentlet-" + version + ".spdx.json" }

// bill returns the SPDX document of the release and its modules, given as versions by path.
func bill(version string, created time.Time, modules map[string]string) *spdx.Document {
	const own = common.ElementID("agentlet")
	document := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: "agentlet-" + version, DocumentNamespace: "https://agentlet.dev/spdx/agentlet-" + version,
		CreationInfo: &spdx.CreationInfo{
			Created:  created.UTC().Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "agentlet-release-" + version}},
		},
		Packages:      []*spdx.Package{module(own, "github.com/agentlet/agentlet", version, "Apache-2.0")},
		Relationships: []*spdx.Relationship{relation("DOCUMENT", common.TypeRelationshipDescribe, own)},
	}
	for i, path := range slices.Sorted(maps.Keys(modules)) {
		id := common.ElementID(fmt.Sprintf("module-%d", i+1))
		document.Packages = append(document.Packages, module(id, path, modules[path], "NOASSERTION"))
		document.Relationships = append(document.Relationships, relation(own, common.TypeRelationshipDependsOn, id))
	}
	return document
}

func module(id common.ElementID, path, version, license string) *spdx.Package {
	return &spdx.Package{
		PackageSPDXIdentifier: id, PackageName: path, PackageVersion: version, PackageDownloadLocation: "NOASSERTION",
		PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: license, PackageCopyrightText: "NOASSERTION",
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL,
			Locator: "pkg:golang/" + path + "@" + version,
		}},
	}
}

func relation(from common.ElementID, kind string, to common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: kind,
	}
}
