package check

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func picked(t *testing.T, c cluster, by *metav1.LabelSelector) (names []string) {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(by)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range c.workloads {
		if selector.Matches(labels.Set(w.pod.Labels)) {
			names = append(names, w.name)
		}
	}
	slices.Sort(names)
	return names
}

func TestSelectorsFindTheirPods(t *testing.T) {
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) {
			c := build(t, overlay)
			for _, w := range c.workloads {
				if w.kind == "Job" {
					continue
				}
				if got := picked(t, c, &metav1.LabelSelector{MatchLabels: w.selector}); !slices.Equal(got, []string{w.name}) {
					t.Errorf("%s selects %v", w.name, got)
				}
				for _, s := range w.pod.Spec.TopologySpreadConstraints {
					if got := picked(t, c, s.LabelSelector); !slices.Equal(got, []string{w.name}) {
						t.Errorf("%s is spread against %v", w.name, got)
					}
				}
				if got := len(budgetsOf(t, c, w.name)); got != 1 && w.name != "redis" {
					t.Errorf("%s has %d disruption budgets", w.name, got)
				}
			}
			for _, s := range c.services {
				found := picked(t, c, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
				if len(found) != 1 {
					t.Errorf("service %s selects %v", s.Name, found)
				}
				for _, p := range s.Spec.Ports {
					if !hasPort(c, found, p.TargetPort.String()) {
						t.Errorf("service %s: %v has no port %s", s.Name, found, p.TargetPort.String())
					}
				}
			}
		})
	}
}

func budgetsOf(t *testing.T, c cluster, name string) (of []string) {
	t.Helper()
	for _, b := range c.budgets {
		if slices.Contains(picked(t, c, b.Spec.Selector), name) {
			of = append(of, b.Name)
		}
	}
	return of
}

func hasPort(c cluster, names []string, port string) bool {
	for _, w := range c.workloads {
		for _, one := range w.pod.Spec.Containers {
			for _, p := range one.Ports {
				if slices.Contains(names, w.name) && p.Name == port {
					return true
				}
			}
		}
	}
	return false
}

// What the policies let through, from whom to whom and where, is the design's list and nothing else.
func TestTheNetworkIsTheDesigns(t *testing.T) {
	want := map[string][]string{
		"nats:4222":            {"builder", "deployer", "feedback", "gateway", "monitor", "planner", "streams"},
		"nats:6222":            {"nats"},
		"redis:6379":           {"builder", "deployer", "feedback", "gateway", "monitor", "planner"},
		"gateway:8080":         {"builder", "deployer"},
		"deployer:20000-20999": {"monitor"},
	}
	for _, overlay := range overlays {
		c := build(t, overlay)
		if overlay == "ha" {
			want["redis-2:6379"] = want["redis:6379"]
		} else {
			delete(want, "redis-2:6379")
		}
		denied := false
		in, out := map[string][]string{}, map[string][]string{}
		for _, p := range c.policies {
			subjects := picked(t, c, &p.Spec.PodSelector)
			if len(subjects) == 0 {
				t.Errorf("policy %s selects nobody", p.Name)
			}
			denied = denied || len(p.Spec.Ingress)+len(p.Spec.Egress) == 0 && len(p.Spec.PolicyTypes) == 2 && len(subjects) == len(c.workloads)
			for _, rule := range p.Spec.Ingress {
				if len(rule.From) == 0 || len(rule.Ports) == 0 {
					t.Errorf("policy %s lets everybody in", p.Name)
				}
				note(t, c, in, subjects, rule.From, rule.Ports, true)
			}
			for _, rule := range p.Spec.Egress {
				if len(rule.To) == 0 || len(rule.Ports) == 0 {
					t.Errorf("policy %s lets everything out", p.Name)
				}
				note(t, c, out, subjects, rule.To, rule.Ports, false)
			}
		}
		if !denied {
			t.Error("nothing is denied by default")
		}
		for direction, got := range map[string]map[string][]string{"in": in, "out": out} {
			for _, to := range slices.Sorted(maps.Keys(got)) {
				if !slices.Equal(got[to], want[to]) {
					t.Errorf("%s, %s to %s: %v, want %v", overlay, direction, to, got[to], want[to])
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s, %s: %d ways, want %d", overlay, direction, len(got), len(want))
			}
		}
	}
}

// What the policies let in from other namespaces, and out of this one, is the list of docs/kubernetes.md and nothing else.
func TestTheWaysOutAreTheDesigns(t *testing.T) {
	services := "builder deployer feedback monitor planner"
	private := "10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16"
	names := "kubernetes.io/metadata.name=kube-system,k8s-app=kube-dns"
	for _, overlay := range overlays {
		c := build(t, overlay)
		var everybody []string
		for _, w := range c.workloads {
			everybody = append(everybody, w.name)
		}
		slices.Sort(everybody)
		want := map[string]string{
			"out to " + names + " UDP 53":                       strings.Join(everybody, " "),
			"out to " + names + " TCP 53":                       strings.Join(everybody, " "),
			"out to lemnis.io/observe=true TCP 4318":            "builder deployer feedback gateway monitor planner",
			"out to 0.0.0.0/0 but " + private + " TCP 22":       "builder gateway monitor",
			"out to 0.0.0.0/0 but " + private + " TCP 80":       "builder gateway monitor",
			"out to 0.0.0.0/0 but " + private + " TCP 443":      "builder gateway monitor",
			"in from lemnis.io/observe=true TCP 8080":           "gateway",
			"in from lemnis.io/observe=true TCP 8081":           services,
			"in from lemnis.io/ingress=true TCP 8080":           "gateway",
			"in from lemnis.io/ingress=true TCP 20000 to 20999": "deployer",
		}
		got := map[string]string{}
		for _, p := range c.policies {
			subjects := strings.Join(picked(t, c, &p.Spec.PodSelector), " ")
			for _, rule := range p.Spec.Ingress {
				outside(got, "in from ", subjects, rule.From, rule.Ports)
			}
			for _, rule := range p.Spec.Egress {
				outside(got, "out to ", subjects, rule.To, rule.Ports)
			}
		}
		for _, way := range slices.Sorted(maps.Keys(got)) {
			if got[way] != want[way] {
				t.Errorf("%s, %s: %s, want %s", overlay, way, got[way], want[way])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d ways, want %d", overlay, len(got), len(want))
		}
	}
}

// outside keeps, by direction, peer and port, which pods are reached by, or reach, what is not a pod of this namespace.
func outside(ways map[string]string, direction, subjects string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	for _, peer := range peers {
		var who string
		switch {
		case peer.IPBlock != nil:
			who = peer.IPBlock.CIDR + " but " + strings.Join(peer.IPBlock.Except, " ")
		case peer.NamespaceSelector != nil:
			if who = metav1.FormatLabelSelector(peer.NamespaceSelector); peer.PodSelector != nil {
				who += "," + metav1.FormatLabelSelector(peer.PodSelector)
			}
		default:
			continue
		}
		for _, port := range ports {
			where := "every port"
			if port.Protocol != nil && port.Port != nil {
				where = string(*port.Protocol) + " " + port.Port.String()
			}
			if port.EndPort != nil {
				where += fmt.Sprintf(" to %d", *port.EndPort)
			}
			way := direction + who + " " + where
			ways[way] = strings.TrimSpace(ways[way] + " " + subjects)
		}
	}
}

// note keeps, by "<target>:<port>", who may reach it among the pods.
func note(t *testing.T, c cluster, ways map[string][]string, subjects []string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, inward bool) {
	t.Helper()
	for _, peer := range peers {
		if peer.PodSelector == nil || peer.NamespaceSelector != nil { // of other namespaces, or outside
			continue
		}
		others := picked(t, c, peer.PodSelector)
		for _, port := range ports {
			where := port.Port.String()
			if port.EndPort != nil {
				where += fmt.Sprintf("-%d", *port.EndPort)
			}
			targets, sources := others, subjects
			if inward {
				targets, sources = subjects, others
			}
			for _, target := range targets {
				all := slices.Concat(ways[target+":"+where], sources)
				slices.Sort(all)
				ways[target+":"+where] = slices.Compact(all)
			}
		}
	}
}

// Every variable is one that a program reads; a misspelt one would be silently ignored.
func TestVariablesAreRead(t *testing.T) {
	source := sources(t)
	read := func(name string) bool { return bytes.Contains(source, []byte(`"`+name+`"`)) }
	if read("LEMNIS_NAT_URL") {
		t.Fatal("everything is read")
	}
	for _, overlay := range overlays {
		c := build(t, overlay)
		for _, w := range c.workloads {
			for _, one := range w.pod.Spec.Containers {
				var names []string
				for _, e := range one.Env {
					names = append(names, e.Name)
				}
				for _, from := range one.EnvFrom {
					if c.configs[from.ConfigMapRef.Name] == nil {
						t.Fatalf("%s: there is no %s", w.name, from.ConfigMapRef.Name)
					}
					names = slices.AppendSeq(names, maps.Keys(c.configs[from.ConfigMapRef.Name].Data))
				}
				for _, name := range names {
					if strings.HasPrefix(name, "LEMNIS_") && !read(name) {
						t.Errorf("%s: no program reads %s", w.name, name)
					}
				}
			}
		}
	}
}

// What an operator may set, by the table of the documentation, reaches each service that reads it.
func TestSettingsReachTheirServices(t *testing.T) {
	text, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	c := build(t, overlays[0])
	for _, setting := range []string{"LEMNIS_OSV", "LEMNIS_ISOLATION", "LEMNIS_PUBLIC_URL", "LEMNIS_ALLOW_PRIVATE_SINKS"} {
		row := regexp.MustCompile("(?m)^\\| `" + setting + "` \\| ([^|]+) \\|").FindSubmatch(text)
		if row == nil {
			t.Fatalf("docs/operate.md does not say who reads %s", setting)
		}
		for reader := range strings.SplitSeq(string(row[1]), ", ") {
			if strings.HasPrefix(reader, "`") {
				continue // a program that no stack runs
			}
			if !given(c, reader, setting) {
				t.Errorf("the %s of the cluster is not given %s", reader, setting)
			}
			if got := compose(t, composeFiles[0]).Services[reader].Environment[setting]; got != "${"+setting+":-}" {
				t.Errorf("compose gives %s of the %s as %v", setting, reader, got)
			}
		}
	}
}

// given reports whether a workload has a variable out of its ConfigMap.
func given(c cluster, workload, variable string) bool {
	for _, w := range c.workloads {
		for _, one := range w.pod.Spec.Containers {
			for _, from := range one.EnvFrom {
				if _, ok := c.configs[from.ConfigMapRef.Name].Data[variable]; ok && w.name == workload {
					return true
				}
			}
		}
	}
	return false
}

// sources are all Go files of the programs, without tests.
func sources(t *testing.T) []byte {
	t.Helper()
	var all bytes.Buffer
	for _, root := range []string{"../../services", "../../internal", "../../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.Bytes()
}

// Every secret, and every key of it, is in the table of the documentation; configuration and volumes are there.
func TestReferencesLead(t *testing.T) {
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("(?m)^\\| `(lemnis-[a-z-]+)` \\| (.*?) \\|").FindAllStringSubmatch(string(text), -1)
	for _, overlay := range overlays {
		c := build(t, overlay)
		used := map[string]bool{}
		for _, w := range c.workloads {
			for _, r := range references(c, w.pod.Spec) {
				if r.missing != "" {
					t.Errorf("%s, %s: %s", overlay, w.name, r.missing)
					continue
				}
				used[r.secret] = true
				if !slices.ContainsFunc(documented, func(row []string) bool { return row[1] == r.secret && strings.Contains(row[2], "`"+r.key+"`") }) {
					t.Errorf("%s, %s: docs/kubernetes.md has no row for %s of the secret %s", overlay, w.name, r.key, r.secret)
				}
			}
		}
		for _, row := range documented {
			if !used[row[1]] && overlay == "ha" {
				t.Errorf("the documented secret %s is not used", row[1])
			}
		}
	}
}

type reference struct{ secret, key, missing string }

func references(c cluster, pod corev1.PodSpec) (all []reference) {
	items := func(secret string, items []corev1.KeyToPath) {
		if len(items) == 0 {
			all = append(all, reference{missing: "the whole of secret " + secret + " is mounted"})
		}
		for _, i := range items {
			all = append(all, reference{secret: secret, key: i.Key})
		}
	}
	for _, v := range pod.Volumes {
		if v.Secret != nil {
			items(v.Secret.SecretName, v.Secret.Items)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					items(s.Secret.Name, s.Secret.Items)
				}
				if s.ConfigMap != nil && c.configs[s.ConfigMap.Name] == nil {
					all = append(all, reference{missing: "there is no ConfigMap " + s.ConfigMap.Name})
				}
			}
		}
		if v.PersistentVolumeClaim != nil && c.claims[v.PersistentVolumeClaim.ClaimName] == nil {
			all = append(all, reference{missing: "there is no claim " + v.PersistentVolumeClaim.ClaimName})
		}
	}
	for i := range pod.Containers {
		for _, e := range pod.Containers[i].Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				all = append(all, reference{secret: e.ValueFrom.SecretKeyRef.Name, key: e.ValueFrom.SecretKeyRef.Key})
			}
		}
	}
	return all
}

func TestTheHighlyAvailableOverlay(t *testing.T) {
	c := build(t, "ha")
	for _, w := range c.workloads {
		want := int32(2)
		switch w.name {
		case "nats":
			want = 3
		case "redis", "redis-2", "streams":
			want = 1
		}
		if w.replicas != want {
			t.Errorf("%s has %d replicas, want %d", w.name, w.replicas, want)
		}
	}
	found := 0
	for name, m := range c.configs {
		if strings.HasPrefix(name, "lemnis-") && m.Data["LEMNIS_REPLICAS"] == "3" && m.Data["LEMNIS_NATS_URL"] != "" {
			found++
		}
		if strings.HasPrefix(name, "nats-") && strings.Contains(m.Data["nats.conf"], "cluster {") {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 configurations are those of a cluster", found)
	}
	// Of the two Redis one has to be left when a node is lost.
	apart := false
	for _, w := range c.workloads {
		if a := w.pod.Spec.Affinity; w.name == "redis-2" && a != nil && a.PodAntiAffinity != nil {
			for _, term := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
				apart = apart || term.TopologyKey == corev1.LabelHostname && slices.Equal(picked(t, c, term.LabelSelector), []string{"redis", "redis-2"})
			}
		}
	}
	if !apart {
		t.Error("the second Redis is not there, or may run where the first one does")
	}
	if modes := c.claims["gateway"].Spec.AccessModes; len(modes) != 1 || modes[0] != corev1.ReadWriteMany {
		t.Errorf("the gateways' volume is %v", modes)
	}
}
