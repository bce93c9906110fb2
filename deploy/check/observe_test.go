package check

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"

	"github.com/lemnis/lemnis/cmd/lemnis/up"
	"github.com/lemnis/lemnis/cmd/lemnis/up/uptest"
)

var promql = parser.NewParser(parser.Options{})

// alerts reads the rules as Prometheus does; a field that it does not know is an error.
func alerts(t *testing.T) []rulefmt.Rule {
	t.Helper()
	text, err := os.ReadFile("../observe/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation, promql, slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return groups.Groups[0].Rules
}

// gone are those that have to fire where a process is there no more: its series end.
var gone = map[string]struct{ bad, label string }{
	"LemnisIsGone": {`lemnis_owner{phase="plan"} 1x50
		 lemnis_gateway_ready{instance="g"} 1x5 stale`, ""},
	"LemnisNobodyDecides": {`lemnis_owner{phase="plan",instance="a"} 1x5 stale
		 lemnis_owner{phase="learn",instance="b"} 1x50`, `phase="plan"`},
}

// Each alert: series of one sample in 30 s from which it fires within 25 minutes, with these labels, and others from which
// it does not.
var cases = map[string]struct {
	bad, good string
	label     string // of what fires, beside the severity
}{
	"LemnisIsGone": {`up 1x50`, `lemnis_owner{phase="plan"} 0x50
		 lemnis_gateway_ready{instance="g"} 0x50`, ""},
	"LemnisNobodyDecides": {
		`lemnis_owner{phase="plan",instance="a"} 0x50
		 lemnis_owner{phase="plan",instance="b"} 0x50`,
		`lemnis_owner{phase="plan",instance="a"} 1x5 stale
		 lemnis_owner{phase="plan",instance="b"} 1x50
		 lemnis_owner{phase="learn",instance="b"} 1x5 0 1x44`, `phase="plan"`,
	},
	"LemnisTwoDecide": {
		`lemnis_owner{phase="plan",instance="a"} 1x50
		 lemnis_owner{phase="plan",instance="b"} 1x50`,
		`lemnis_owner{phase="plan",instance="a"} 1x50
		 lemnis_owner{phase="learn",instance="a"} 1x50`, `phase="plan"`,
	},
	"LemnisStandsStill": {
		`lemnis_lag_events{phase="plan"} 3x50
		 lemnis_floor_sequence{phase="plan"} 7x50`,
		`lemnis_lag_events{phase="plan"} 3x50
		 lemnis_floor_sequence{phase="plan"} 7+2x50
		 lemnis_lag_events{phase="learn"} 0x50
		 lemnis_floor_sequence{phase="learn"} 7x50`, `phase="plan"`,
	},
	"LemnisIsBehind":       {`lemnis_lag_events{phase="plan"} 1001x50`, `lemnis_lag_events{phase="plan"} 2000x5 0x45`, `phase="plan"`},
	"LemnisCanNotDecide":   {`lemnis_troubles{phase="plan"} 1x50`, `lemnis_troubles{phase="plan"} 0x50`, `phase="plan"`},
	"LemnisEffectIsBehind": {`lemnis_effect_pending{phase="integrate",effect="run"} 200x50`, `lemnis_effect_pending{phase="integrate",effect="run"} 99x50`, `effect="run"`},
	"LemnisEffectFails": {
		`lemnis_effect_attempts_total{phase="deploy",effect="shift",outcome="failed"} 0+6x50`,
		`lemnis_effect_attempts_total{phase="deploy",effect="shift",outcome="done"} 0+6x50
		 lemnis_effect_attempts_total{phase="deploy",effect="shift",outcome="failed"} 0 1x49`, `effect="shift"`,
	},
	"LemnisEffectRepeats": {`lemnis_effect_redeliveries_total{phase="deploy",effect="shift"} 0+60x50`, `lemnis_effect_redeliveries_total{phase="deploy",effect="shift"} 0+1x50`, `effect="shift"`},
	"LemnisDeadLetters": {
		`lemnis_dead_letters_total{phase="plan"} 0x20 1x30`,
		`lemnis_dead_letters_total{phase="plan"} 5x50
		 lemnis_gateway_dead_letters_total 2x50`, `phase="plan"`,
	},
	"LemnisFenceConflicts": {`lemnis_fence_conflicts_total{phase="plan"} 0+600x50`, `lemnis_fence_conflicts_total{phase="plan"} 0+3x50`, `phase="plan"`},
	"LemnisCanNotPublish":  {`lemnis_publish_errors_total{phase="plan"} 0+15x50`, `lemnis_publish_errors_total{phase="plan"} 0 1x49`, `phase="plan"`},
	"LemnisIsSlow": {
		`lemnis_publish_seconds_bucket{phase="plan",le="1"} 0+1x50
		 lemnis_publish_seconds_bucket{phase="plan",le="3"} 0+10x50
		 lemnis_publish_seconds_bucket{phase="plan",le="+Inf"} 0+10x50`,
		`lemnis_publish_seconds_bucket{phase="plan",le="1"} 0+10x50
		 lemnis_publish_seconds_bucket{phase="plan",le="3"} 0+10x50
		 lemnis_publish_seconds_bucket{phase="plan",le="+Inf"} 0+10x50`, `phase="plan"`,
	},
	"LemnisDecidesSlowly": {
		`lemnis_decide_seconds_bucket{phase="plan",le="0.1"} 0+1x50
		 lemnis_decide_seconds_bucket{phase="plan",le="0.3"} 0+10x50
		 lemnis_decide_seconds_bucket{phase="plan",le="+Inf"} 0+10x50`,
		`lemnis_decide_seconds_bucket{phase="plan",le="0.1"} 0+10x50
		 lemnis_decide_seconds_bucket{phase="plan",le="+Inf"} 0+10x50`, `phase="plan"`,
	},
	"LemnisFoldsAreOld": {`lemnis_fold_age_seconds{phase="plan"} 0+30x50`, `lemnis_fold_age_seconds{phase="plan"} 0.1x50`, `phase="plan"`},
	"LemnisLostTheBus":  {`lemnis_bus_connected{instance="a"} 0x50`, `lemnis_bus_connected{instance="a"} 1x50`, `instance="a"`},
	"LemnisIsNotReady": {
		`lemnis_ready{instance="a",phase="plan"} 1x50
		 lemnis_gateway_ready{instance="g"} 0x50`,
		`lemnis_ready{instance="a",phase="plan"} 0x5 1x45
		 lemnis_gateway_ready{instance="g"} 1x50`, `instance="g"`,
	},
	"LemnisReadModelsAreBehind": {
		`lemnis_stream_last_sequence{instance="a"} 5000x50
		 lemnis_gateway_index_sequence{instance="g"} 3000x50`,
		`lemnis_stream_last_sequence{instance="a"} 5000x50
		 lemnis_gateway_index_sequence{instance="g"} 4990x50`, `instance="g"`,
	},
}

func TestAlerts(t *testing.T) {
	all := alerts(t)
	if len(all) != len(cases) {
		t.Errorf("%d alerts, %d of them tested", len(all), len(cases))
	}
	for _, rule := range all {
		t.Run(rule.Alert, func(t *testing.T) {
			c, ok := cases[rule.Alert]
			if !ok {
				t.Fatal("it is not tested")
			}
			fired := firing(t, rule, c.bad)
			if len(fired) == 0 || !slices.ContainsFunc(fired, func(s string) bool { return strings.Contains(s, c.label) && strings.Contains(s, `severity="`) }) {
				t.Errorf("it does not fire, or for something else than %s: %v", c.label, fired)
			}
			if g, ok := gone[rule.Alert]; ok {
				if fired := firing(t, rule, g.bad); len(fired) == 0 || slices.ContainsFunc(fired, func(s string) bool { return !strings.Contains(s, g.label) }) {
					t.Errorf("nobody is woken when a process is gone, or for something else than %s: %v", g.label, fired)
				}
			}
			if fired := firing(t, rule, c.good); len(fired) > 0 {
				t.Errorf("it fires for nothing: %v", fired)
			}
		})
	}
}

// firing evaluates a rule every 30 s for 25 minutes and returns the labels of what fired.
func firing(t *testing.T, rule rulefmt.Rule, series string) (fired []string) {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 30s\n  "+series)
	defer func() { _ = storage.Close() }()
	engine := promqltest.NewTestEngine(t, false, 0, 100_000)
	expr, err := promql.ParseExpr(rule.Expr)
	if err != nil {
		t.Fatal(err)
	}
	r := rules.NewAlertingRule(rule.Alert, expr, time.Duration(rule.For), 0, labels.FromMap(rule.Labels), labels.FromMap(rule.Annotations),
		labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler))
	for at := time.Duration(0); at <= 25*time.Minute; at += 30 * time.Second {
		if _, err := r.Eval(t.Context(), 0, time.UnixMilli(0).Add(at), rules.EngineQueryFunc(engine, storage), &url.URL{}, 0); err != nil {
			t.Fatal(err)
		}
		for _, a := range r.ActiveAlerts() {
			if a.State == rules.StateFiring {
				if a.Annotations.Get("summary") == "" || strings.Contains(a.Annotations.Get("summary"), "error") {
					t.Errorf("summary %q", a.Annotations.Get("summary"))
				}
				fired = append(fired, a.Labels.String())
			}
		}
	}
	return fired
}

// Whoever is woken finds what to do.
func TestAlertsAreExplained(t *testing.T) {
	text, err := os.ReadFile("../../docs/observe.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range alerts(t) {
		_, anchor, _ := strings.Cut(rule.Annotations["runbook"], "docs/observe.md#")
		title := regexp.MustCompile("(?mi)^### " + strings.ReplaceAll(regexp.QuoteMeta(anchor), "-", "[ -]") + "$")
		if anchor == "" || !title.Match(text) {
			t.Errorf("%s: docs/observe.md has no section %q", rule.Alert, anchor)
		}
	}
}

// Every metric that an alert, a panel or the documentation names is one that a process shows.
func TestMetricsAreThere(t *testing.T) {
	shown := exposed(t)
	if shown["lemnis_nothing"] || len(shown) < 20 {
		t.Fatalf("%d metrics", len(shown))
	}
	expect := func(where, name string) {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && shown[base] {
				return
			}
		}
		if !shown[name] {
			t.Errorf("%s: no process shows %s", where, name)
		}
	}
	query := func(where, text string) {
		text = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*").Replace(text)
		expr, err := promql.ParseExpr(text)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			return
		}
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			if v, ok := n.(*parser.VectorSelector); ok {
				expect(where, v.Name)
			}
			return nil
		})
	}
	for _, rule := range alerts(t) {
		query(rule.Alert, rule.Expr)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile("../observe/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &dashboard); err != nil || len(dashboard.Panels) == 0 {
		t.Fatalf("%d panels: %v", len(dashboard.Panels), err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			query(p.Title, target.Expr)
		}
	}
	text, err = os.ReadFile("../../docs/observe.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("`(lemnis_[a-z_]+)").FindAllStringSubmatch(string(text), -1)
	for _, name := range documented {
		expect("docs/observe.md", name[1])
	}
	for name := range shown {
		if strings.HasPrefix(name, "lemnis_") && !strings.Contains(string(text), "`"+name) {
			t.Errorf("docs/observe.md does not explain %s", name)
		}
	}
}

// exposed are the metrics that `lemnis up` shows at its gateway once it works.
func exposed(t *testing.T) map[string]bool {
	t.Helper()
	quotas := filepath.Join(t.TempDir(), "quotas.yaml")
	if err := os.WriteFile(quotas, []byte("projects: {bounded: {registry: 1B}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stack, stop := uptest.Run(t, up.Options{Quotas: quotas})
	defer stop()
	ask := func(method, path, body string) string {
		r, err := http.NewRequestWithContext(t.Context(), method, stack.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// What is counted by its outcome is there once there is one.
	ask(http.MethodPost, "/webhooks/github/shop", "")
	ask(http.MethodPost, "/v2/bounded/x/blobs/uploads/?digest=sha256:"+strings.Repeat("0", 64), "more than one byte")
	for deadline := time.Now().Add(time.Minute); ; {
		shown, text := map[string]bool{}, ask(http.MethodGet, "/metrics", "")
		for _, line := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(text, -1) {
			shown[line[1]] = true
		}
		if shown["lemnis_effect_pending"] && shown["lemnis_lag_events"] || time.Now().After(deadline) {
			return shown
		}
		<-time.After(50 * time.Millisecond)
	}
}
