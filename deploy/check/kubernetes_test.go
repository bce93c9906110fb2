package check

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var overlays = []string{"single", "ha"}

// kinds are what the manifests may hold. Another kind is a mistake, or a line here.
var kinds = map[string]func() any{
	"v1/ConfigMap":                       func() any { return new(corev1.ConfigMap) },
	"v1/Namespace":                       func() any { return new(corev1.Namespace) },
	"v1/PersistentVolumeClaim":           func() any { return new(corev1.PersistentVolumeClaim) },
	"v1/Service":                         func() any { return new(corev1.Service) },
	"v1/ServiceAccount":                  func() any { return new(corev1.ServiceAccount) },
	"apps/v1/Deployment":                 func() any { return new(appsv1.Deployment) },
	"apps/v1/StatefulSet":                func() any { return new(appsv1.StatefulSet) },
	"batch/v1/Job":                       func() any { return new(batchv1.Job) },
	"networking.k8s.io/v1/NetworkPolicy": func() any { return new(networkingv1.NetworkPolicy) },
	"policy/v1/PodDisruptionBudget":      func() any { return new(policyv1.PodDisruptionBudget) },
}

// decode reads one manifest into the API's own type; a field that the type does not have is an error.
func decode(text []byte) (any, error) {
	var head struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(text, &head); err != nil {
		return nil, err
	}
	of := kinds[head.APIVersion+"/"+head.Kind]
	if of == nil {
		return nil, fmt.Errorf("unexpected %s %s", head.APIVersion, head.Kind)
	}
	object := of()
	if err := yaml.UnmarshalStrict(text, object); err != nil {
		return nil, fmt.Errorf("%s: %w", head.Kind, err)
	}
	return object, nil
}

// workload is a pod template and what runs it.
type workload struct {
	kind, name string
	replicas   int32
	selector   map[string]string
	pod        corev1.PodTemplateSpec
}

// cluster is an overlay, decoded.
type cluster struct {
	workloads  []workload
	policies   []*networkingv1.NetworkPolicy
	budgets    []*policyv1.PodDisruptionBudget
	services   []*corev1.Service
	accounts   map[string]*corev1.ServiceAccount
	configs    map[string]*corev1.ConfigMap
	claims     map[string]*corev1.PersistentVolumeClaim
	namespaces []*corev1.Namespace
}

func build(t *testing.T, overlay string) cluster {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "../k8s/"+overlay)
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{accounts: map[string]*corev1.ServiceAccount{}, configs: map[string]*corev1.ConfigMap{}, claims: map[string]*corev1.PersistentVolumeClaim{}}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, err := decode(text)
		if err != nil {
			t.Fatalf("%s %s: %v", r.GetKind(), r.GetName(), err)
		}
		if r.GetKind() != "Namespace" && r.GetNamespace() != "lemnis" {
			t.Errorf("%s %s is in the namespace %q", r.GetKind(), r.GetName(), r.GetNamespace())
		}
		c.add(object)
	}
	return c
}

func (c *cluster) add(object any) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		c.workloads = append(c.workloads, workload{"Deployment", o.Name, *o.Spec.Replicas, o.Spec.Selector.MatchLabels, o.Spec.Template})
	case *appsv1.StatefulSet:
		c.workloads = append(c.workloads, workload{"StatefulSet", o.Name, *o.Spec.Replicas, o.Spec.Selector.MatchLabels, o.Spec.Template})
	case *batchv1.Job:
		c.workloads = append(c.workloads, workload{"Job", o.Name, 1, nil, o.Spec.Template})
	case *networkingv1.NetworkPolicy:
		c.policies = append(c.policies, o)
	case *policyv1.PodDisruptionBudget:
		c.budgets = append(c.budgets, o)
	case *corev1.Service:
		c.services = append(c.services, o)
	case *corev1.ServiceAccount:
		c.accounts[o.Name] = o
	case *corev1.ConfigMap:
		c.configs[o.Name] = o
	case *corev1.PersistentVolumeClaim:
		c.claims[o.Name] = o
	case *corev1.Namespace:
		c.namespaces = append(c.namespaces, o)
	}
}

func TestAMisspeltFieldFails(t *testing.T) {
	good := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {template: {spec: {containers: [{name: x, readinessProbe: {periodSeconds: 5}}]}}}\n"
	if _, err := decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for right, wrong := range map[string]string{
		"readinessProbe": "readynessProbe", "periodSeconds: 5": "periodSeconds: five", "kind: Deployment": "kind: Deploymentt", "containers": "container",
	} {
		if _, err := decode([]byte(strings.Replace(good, right, wrong, 1))); err == nil {
			t.Errorf("%s passes", wrong)
		}
	}
}

func TestWhatRunsIsConfined(t *testing.T) {
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) {
			c := build(t, overlay)
			if want := map[string]int{"single": 9, "ha": 10}[overlay]; len(c.workloads) != want { // ha has two Redis
				t.Errorf("%d workloads, want %d", len(c.workloads), want)
			}
			if level := c.namespaces[0].Labels["pod-security.kubernetes.io/enforce"]; level != "restricted" {
				t.Errorf("pod security is %q", level)
			}
			for _, w := range c.workloads {
				for _, complaint := range confined(w) {
					t.Errorf("%s %s: %s", w.kind, w.name, complaint)
				}
				account := c.accounts[w.pod.Spec.ServiceAccountName]
				if account == nil || account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken {
					t.Errorf("%s %s: its service account is %v", w.kind, w.name, account)
				}
			}
		})
	}
}

// confined says what a workload lacks.
func confined(w workload) (complaints []string) {
	must := func(ok bool, what string) {
		if !ok {
			complaints = append(complaints, what)
		}
	}
	pod := w.pod.Spec
	p := pod.SecurityContext
	must(pod.AutomountServiceAccountToken != nil && !*pod.AutomountServiceAccountToken, "mounts the token of its account")
	must(p != nil && p.RunAsNonRoot != nil && *p.RunAsNonRoot && p.RunAsUser != nil && *p.RunAsUser > 0, "may run as root")
	must(p != nil && p.SeccompProfile != nil && p.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "no seccomp profile")
	must(!pod.HostNetwork && !pod.HostPID && !pod.HostIPC, "shares the node's namespaces")
	for _, v := range pod.Volumes {
		must(v.HostPath == nil, "mounts a path of the node")
		must(v.EmptyDir == nil || v.EmptyDir.SizeLimit != nil, "an emptyDir without a limit")
	}
	for i := range pod.Containers {
		one := &pod.Containers[i]
		s := one.SecurityContext
		must(s != nil && s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem, "writes to its root file system")
		must(s != nil && s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation, "may gain rights")
		must(s != nil && s.Capabilities != nil && len(s.Capabilities.Drop) == 1 && s.Capabilities.Drop[0] == "ALL" && len(s.Capabilities.Add) == 0, "keeps capabilities")
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			request, limit := one.Resources.Requests[name], one.Resources.Limits[name]
			must(!request.IsZero() && !limit.IsZero() && request.Cmp(limit) <= 0, "no request or limit of "+string(name))
		}
		if w.kind != "Job" {
			must(one.StartupProbe != nil && one.LivenessProbe != nil && one.ReadinessProbe != nil, "lacks a probe")
			must(len(pod.TopologySpreadConstraints) > 0, "is not spread over nodes")
		}
	}
	return complaints
}

func TestConfinementIsChecked(t *testing.T) {
	c := build(t, "single")
	for name, spoil := range map[string]func(*corev1.PodSpec){
		"lacks a probe":                   func(p *corev1.PodSpec) { p.Containers[0].ReadinessProbe = nil },
		"no request or limit of memory":   func(p *corev1.PodSpec) { delete(p.Containers[0].Resources.Limits, corev1.ResourceMemory) },
		"writes to its root file system":  func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.ReadOnlyRootFilesystem = nil },
		"keeps capabilities":              func(p *corev1.PodSpec) { p.Containers[0].SecurityContext.Capabilities.Drop = nil },
		"may run as root":                 func(p *corev1.PodSpec) { p.SecurityContext.RunAsNonRoot = nil },
		"mounts the token of its account": func(p *corev1.PodSpec) { p.AutomountServiceAccountToken = nil },
		"is not spread over nodes":        func(p *corev1.PodSpec) { p.TopologySpreadConstraints = nil },
	} {
		for _, w := range c.workloads {
			if w.name != "planner" {
				continue
			}
			w.pod = *w.pod.DeepCopy()
			spoil(&w.pod.Spec)
			if got := confined(w); len(got) != 1 || got[0] != name {
				t.Errorf("want %q, got %q", name, got)
			}
		}
	}
}
