package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lemnis/lemnis/internal/excerpt"
	"github.com/lemnis/lemnis/internal/licence"
	"github.com/lemnis/lemnis/internal/oci"
	"github.com/lemnis/lemnis/internal/osv"
	"github.com/lemnis/lemnis/internal/sbom"
	"github.com/lemnis/lemnis/internal/service"
	"github.com/lemnis/lemnis/pkg/events"
)

const (
	// mostFound is how many vulnerabilities a fact lists; all are counted.
	mostFound = 50
	// mostListed is how many licences, things without one, things that are missing, and tests that do not count a fact lists; the bill has all.
	mostListed = 200
	// mostModules is how many modules of an artifact are looked up and stand in its provenance: an image's programs may name any.
	mostModules = 10_000
	// mostText is how many bytes of a name a fact has.
	mostText = 300
	// billName is the file name of a bill of materials.
	billName = "sbom.cdx.json"
)

// proof is the evidence of one artifact while it is made.
type proof struct {
	*builder
	job     *service.Job
	build   events.BuildDetail
	made    product
	ref     oci.Reference // of the artifact
	started time.Time     // when its build began

	programs []sbom.Program // in it; none when it is no Go program
	contents *sbom.Image    // nil: it is an executable
	bill     oci.Reference  // of the bill of materials; zero when there is none
	supply   events.Supply
}

// prove attaches to the artifact what it is made of and where it comes from, and finds out what is known against it. Evidence
// that cannot be made here is said to be missing; a registry that does not take it is a fault, and what is packaged when it can not be read.
func (p *proof) prove(ctx context.Context) (*events.Supply, error) {
	began := time.Now()
	var unread *unreadError
	switch err := p.read(ctx); {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &unread):
		return nil, err
	case err != nil:
		p.miss("bill of materials", err.Error())
		p.miss("vulnerabilities", err.Error())
	default:
		if err := p.list(ctx); err != nil {
			return nil, err
		}
		p.scan(ctx)
	}
	if err := p.sign(ctx); err != nil {
		return nil, err
	}
	p.supply.Seconds = time.Since(began).Seconds()
	return &p.supply, nil
}

// unreadError says that what is packaged can not be read here, or is not what was made: not that it tells nothing.
type unreadError struct{ error }

// read looks into what is packaged. The error says why that tells nothing of what it is made of.
func (p *proof) read(ctx context.Context) error {
	if !p.made.image {
		program, err := sbom.Read(p.made.file)
		var path *fs.PathError
		if errors.As(err, &path) {
			return &unreadError{fmt.Errorf("read what is packaged: %w", err)}
		}
		if err != nil {
			return errors.New("it is no Go program")
		}
		p.programs = []sbom.Program{program}
		return nil
	}
	archive, err := oci.OpenImage(p.made.file)
	if err != nil {
		return &unreadError{fmt.Errorf("read what is packaged: %w", err)}
	}
	defer func() { _ = archive.Close() }()
	if archive.ID != p.made.digest {
		return &unreadError{fmt.Errorf("what is packaged was %s when it was made and is %s now", p.made.digest, archive.ID)}
	}
	contents, err := sbom.ReadImage(ctx, archive.ID, archive.Layers(), filepath.Dir(p.made.file), oci.MaxAttachment)
	if err != nil {
		return err
	}
	p.contents = &contents
	for _, placed := range contents.Programs {
		p.programs = append(p.programs, placed.Program)
	}
	return nil
}

func (p *proof) miss(what, why string) {
	if missing := len(p.supply.Missing); missing < mostListed {
		p.supply.Missing = append(p.supply.Missing, shortened(what+": "+why))
	} else if missing == mostListed {
		p.supply.Missing = append(p.supply.Missing, "more")
	}
}

// attach hangs something at the artifact. Consent to plain http is in the registry's URL, and not in a reference.
func (p *proof) attach(ctx context.Context, a oci.Attachment) (oci.Reference, error) {
	subject := p.ref
	if strings.HasPrefix(p.options.Registry, "http://") {
		subject.Repository = "http://" + subject.Repository
	}
	return oci.Attach(ctx, subject, a, p.options.Push...)
}

// list attaches the bill of materials. The same commit gives the same one.
func (p *proof) list(ctx context.Context) error {
	s := &p.supply
	options := sbom.Options{Name: p.build.Service, Revision: p.build.Merge.Commit, Licences: func(module, version string) []string {
		var ids []string
		for _, folder := range append(p.made.modules, licence.Cache(ctx)) {
			if ids = licence.Of(folder, module, version); len(ids) > 0 {
				break
			}
		}
		s.Licenses = append(s.Licenses, ids...)
		if len(ids) == 0 {
			s.Unlicensed = append(s.Unlicensed, module+"@"+version)
		}
		return ids
	}}
	var text bytes.Buffer
	var err error
	if p.contents == nil {
		err = sbom.Write(&text, p.programs[0].Bill(options))
	} else {
		err = sbom.Write(&text, p.contents.Bill(options))
		p.licences()
	}
	if err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	bound(s)
	if text.Len() > oci.MaxAttachment {
		p.miss("bill of materials", fmt.Sprintf("it has more than %d bytes", oci.MaxAttachment))
		return nil
	}
	if p.bill, err = p.attach(ctx, oci.Attachment{MediaType: sbom.MediaType, Name: billName, Content: text.Bytes()}); err != nil {
		return err
	}
	s.SBOM = p.bill.String()
	return nil
}

// bound sorts the lists of a supply and shortens them: names and licences are what packages say, and a fact has to stay small. What is left out
// counts as without a known licence, for gates to see.
func bound(s *events.Supply) {
	long := func(text string) bool { return len(text) > mostText }
	if slices.ContainsFunc(s.Licenses, long) {
		s.Licenses = slices.DeleteFunc(s.Licenses, long)
		s.Unlicensed = append(s.Unlicensed, fmt.Sprintf("licences of more than %d bytes", mostText))
	}
	slices.Sort(s.Licenses)
	s.Licenses = slices.Compact(s.Licenses)
	if more := len(s.Licenses) - mostListed; more > 0 {
		s.Licenses = s.Licenses[:mostListed:mostListed]
		s.Unlicensed = append(s.Unlicensed, fmt.Sprintf("%d more licences", more))
	}
	for i, name := range s.Unlicensed {
		s.Unlicensed[i] = shortened(name)
	}
	slices.Sort(s.Unlicensed)
	s.Unlicensed = slices.Compact(s.Unlicensed)
	if more := len(s.Unlicensed) - mostListed; more > 0 {
		s.Unlicensed = append(s.Unlicensed[:mostListed:mostListed], fmt.Sprintf("and %d more", more))
	}
}

// listed are names as a fact has them.
func listed(names []string) []string {
	more := len(names) - mostListed
	if more > 0 {
		names = names[:mostListed:mostListed]
	}
	for i, name := range names {
		names[i] = shortened(name)
	}
	if more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return names
}

func shortened(text string) string {
	return excerpt.Of(text, mostText)
}

// licences are those that package managers tell: every word of an expression counts.
func (p *proof) licences() {
	for _, installed := range p.contents.Packages {
		ids := strings.FieldsFunc(installed.Licence, func(r rune) bool { return r == ' ' || r == '(' || r == ')' })
		ids = slices.DeleteFunc(ids, func(word string) bool { return word == "AND" || word == "OR" || word == "WITH" })
		p.supply.Licenses = append(p.supply.Licenses, ids...)
		if len(ids) == 0 {
			p.supply.Unlicensed = append(p.supply.Unlicensed, installed.Name+"@"+installed.Version)
		}
	}
}

// unjudged says why of an image no count of vulnerabilities can be told: of what is not of Go nobody knows any here.
func (p *proof) unjudged() string {
	switch c := p.contents; {
	case c == nil:
		return ""
	case len(c.Packages) > 0:
		return fmt.Sprintf("of %d packages of its system they are not known here", len(c.Packages))
	case len(c.Opaque) > 0:
		return fmt.Sprintf("%d programs and libraries in it are none of Go, as /%s", len(c.Opaque), c.Opaque[0])
	case len(c.Programs) == 0:
		return "it holds no Go program"
	}
	return ""
}

// modules are those of all programs, each once.
func (p *proof) modules() ([]osv.Module, error) {
	var all []osv.Module
	known := map[osv.Module]bool{}
	for _, program := range p.programs {
		for _, m := range osv.Modules(program) {
			if known[m] {
				continue
			}
			if len(all) == mostModules {
				return nil, fmt.Errorf("its programs name more than %d modules", mostModules)
			}
			known[m] = true
			all = append(all, m)
		}
	}
	return all, nil
}

// scan looks the modules up in the database of known vulnerabilities. Without one they are not known, which is not none.
func (p *proof) scan(ctx context.Context) {
	if why := p.unjudged(); why != "" {
		p.miss("vulnerabilities", why)
		return
	}
	if p.options.OSV == "" {
		p.miss("vulnerabilities", "there is no database (LEMNIS_OSV)")
		return
	}
	modules, err := p.modules()
	if err != nil {
		p.miss("vulnerabilities", err.Error())
		return
	}
	report, err := osv.Check(ctx, p.options.OSV, modules)
	if err != nil {
		p.miss("vulnerabilities", err.Error())
		return
	}
	for _, m := range report.Unjudged {
		p.miss("vulnerabilities", fmt.Sprintf("%s has the version %q, which compares with none", m.Path, m.Version))
	}
	if len(report.Unjudged) > 0 {
		return // of one module nothing is known: the count would say too little
	}
	v := &events.Vulnerabilities{
		Critical: report.Count(osv.Critical), High: report.Count(osv.High), Medium: report.Count(osv.Medium),
		Low: report.Count(osv.Low), Unrated: report.Count(osv.Unknown),
	}
	if !report.Modified.IsZero() {
		v.Database = report.Modified.UTC().Format(time.RFC3339)
	}
	for _, f := range report.Findings[:min(len(report.Findings), mostFound)] {
		severity := events.SeverityUnrated
		if f.Severity != osv.Unknown {
			severity = events.Severity(f.Severity.String())
		}
		v.Found = append(v.Found, events.Vulnerability{ID: f.IDs[0], Module: f.Modules[0].Path + "@" + f.Modules[0].Version, Fixed: f.Fixed, Severity: severity})
	}
	p.supply.Vulnerabilities = v
}
