package project

import (
	"fmt"
	"reflect"

	"github.com/lemnis/lemnis/internal/document"
	"github.com/lemnis/lemnis/pkg/events"
)

//go:generate go test -run ^TestSchemaIsUpToDate$ . -write

// notes describe every field, by its path without numbers.
var notes = map[string]document.Note{
	"project":                                   {Text: "Name of the project: 1 to 40 of a-z, 0-9 and '-'."},
	"owners":                                    {Text: "Who does a phase: builtin, or the principal of an outside tool."},
	"repositories":                              {Text: "Repositories of the project; each builds the service of its name."},
	"repositories[].name":                       {Text: "Name of the repository, and of the service that it builds."},
	"repositories[].url":                        {Text: "Where git finds it: https, http, ssh, git or file, or an absolute path."},
	"repositories[].branch":                     {Text: "The master copy; main when left out."},
	"repositories[].main":                       {Text: "Package that becomes the executable; found when left out."},
	"repositories[].credentials":                {Text: "What git asks for: secret:<name>. Over https a token or user:password, over ssh a private key."},
	"repositories[].forge":                      {Text: "The host's API, which is told what becomes of changes as the status of their commits, and asked for those that are open."},
	"repositories[].forge.kind":                 {Text: "What it speaks.", Enum: []string{"github", "gitlab", "gitea", "forgejo"}},
	"repositories[].forge.api":                  {Text: "Address of the API; found by the repository's when left out."},
	"repositories[].forge.token":                {Text: "A token that may set the status of commits and read changes: secret:<name>."},
	"repositories[].needs":                      {Text: "Services that it calls. What came to both of them together goes back together."},
	"review":                                    {Text: "What a change needs before it may be integrated."},
	"review.approvals":                          {Text: "Approvals by others than the author."},
	"environments":                              {Text: "Environments in order; each gate is at least as strict as the one before."},
	"environments[].name":                       {Text: "Name of the environment."},
	"environments[].target":                     {Text: "What artifacts run as: a process of Lemnis, or outside, where another tool deploys.", Enum: []string{"process", "outside"}},
	"environments[].outside":                    {Text: "Who deploys where the target is outside."},
	"environments[].outside.owner":              {Text: "Principal that is asked by deployment.started, and whose service.deployed counts."},
	"environments[].outside.deadline":           {Text: "How long it may take; 30m when left out."},
	"environments[].limits":                     {Text: "What one process of a service may take, with all that it starts; it is ended when it takes more."},
	"environments[].limits.memory":              {Text: "Memory that it shares with no file, like 512MiB."},
	"environments[].limits.processes":           {Text: "Processes, its own among them."},
	"environments[].trial":                      {Text: "How long after it serves all users a version that does not stay up goes back to the one before; 1h when left out, 0s never."},
	"environments[].strategy":                   {Text: "How users get a new version.", Enum: []string{"all-at-once", "blue-green", "canary"}},
	"environments[].gate":                       {Text: "What an artifact has to prove before it enters."},
	"environments[].gate.tests":                 {Text: "The pipeline's tests.", Enum: []string{"passed"}},
	"environments[].gate.coverage":              {Text: "Percent of statements that tests cover, at least."},
	"environments[].gate.coverage-changed":      {Text: "Percent of the lines that the change touches that tests cover, at least."},
	"environments[].gate.approvals":             {Text: "Approvals of people other than the author."},
	"environments[].gate.soak":                  {Text: "Time in the environment before, at least."},
	"environments[].gate.runtime":               {Text: "Runtime tests of the environment before.", Enum: []string{"passed"}},
	"environments[].gate.signature":             {Text: "The signature of the artifact's provenance, by a key that the project trusts.", Enum: []string{"verified"}},
	"environments[].gate.vulnerabilities":       {Text: "Known vulnerabilities of what is in the artifact, at most, by severity. Where no database is configured they are not known, and the gate is closed."},
	"environments[].gate.licenses":              {Text: "SPDX ids that modules may have; one whose licence is not known closes the gate."},
	"environments[].gate.before":                {Text: "What users met of the artifact in the environment before."},
	"environments[].gate.before.requests":       {Text: "Requests that it has to have served there; 100 when left out."},
	"environments[].gate.before.errors":         {Text: "Share of requests that failed, at most, like 0.5%."},
	"environments[].gate.before.p99":            {Text: "Latency that 99 of 100 requests kept."},
	"environments[].gate.freeze":                {Text: "Windows in which nothing enters, in UTC: once from and until a date or time, or each week on days, from and until a time of day."},
	"environments[].gate.freeze[].from":         {Text: "When it begins: 2026-12-23, 2026-12-23T16:00:00Z; with days 16:00, or midnight when left out."},
	"environments[].gate.freeze[].until":        {Text: "When it ends; with days, a time that is not later than from is on the next day."},
	"environments[].gate.freeze[].days":         {Text: "Days of the week on which it begins.", Enum: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}},
	"environments[].gate.freeze[].reason":       {Text: "Why."},
	"environments[].gate.conditions":            {Text: "Checks of the project's own; later environments have them too."},
	"environments[].gate.conditions[].name":     {Text: "Name of the check."},
	"environments[].gate.conditions[].that":     {Text: "CEL expression that has to be true, over environment, service, time, artifact, tests, contents, before."},
	"environments[].blue-green":                 {Text: "Bounds of the strategy blue-green."},
	"environments[].blue-green.keep":            {Text: "How long the version of before runs on without users, to go back to at once; 10m when left out."},
	"environments[].canary":                     {Text: "Bounds of a canary."},
	"environments[].canary.objective":           {Text: "Availability, 0 to 1; 0.999 when left out."},
	"environments[].canary.deadline":            {Text: "When it is judged at the latest; 60m when left out."},
	"environments[].canary.tick":                {Text: "Time between two looks; 1s when left out."},
	"environments[].canary.tolerance":           {Text: "How much slower it may be: 0.1 is a tenth; at 0 any proven slow-down rolls back. Latency is not judged when left out."},
	"environments[].canary.guards":              {Text: "Features and metrics whose failures may not be more either; each is judged for itself."},
	"environments[].canary.baseline":            {Text: "What it is compared with: fresh is another process of the version before, started with it, which serves as many users; what serves all others when left out.", Enum: []string{"fresh"}},
	"environments[].runtime":                    {Text: "Tests of what runs in the environment."},
	"environments[].runtime.paths":              {Text: "Paths that have to answer 2xx; /healthz when left out."},
	"environments[].runtime.p99":                {Text: "Latency that 99 of 100 requests keep; 2s when left out, 1s in the second environment, 500ms in later ones."},
	"environments[].runtime.requests":           {Text: "Requests of the latency test; 100 when left out, 200 in the second environment, 400 in later ones."},
	"environments[].runtime.licenses":           {Text: "SPDX ids that modules may have; the permissive ones when left out."},
	"environments[].runtime.headers":            {Text: "Response headers that have to be there."},
	"environments[].runtime.harmless":           {Text: "Fingerprints, as the test secrets tells them, of keys in the file that runs that open nothing."},
	"environments[].runtime.contract":           {Text: "Path of the OpenAPI 3 document that the service serves; /openapi.json, where it serves one, when left out."},
	"environments[].runtime.tls":                {Text: "Where users reach it by TLS, host or host:port."},
	"environments[].runtime.policy":             {Text: "What the configuration has to be."},
	"environments[].runtime.policy[].name":      {Text: "Name of the policy."},
	"environments[].runtime.policy[].that":      {Text: "CEL expression that has to be true, over project, environment, service, artifact, tests, contents."},
	"environments[].runtime.commands":           {Text: "Tests of the project's own, run beside the deployer."},
	"environments[].runtime.commands[].name":    {Text: "Name of the test."},
	"environments[].runtime.commands[].kind":    {Text: "What it is about.", Enum: []string{"quality", "compliance", "security"}},
	"environments[].runtime.commands[].run":     {Text: "What /bin/sh runs, in a folder of its own, with URL, PORT, ARTIFACT and DIGEST."},
	"environments[].runtime.commands[].junit":   {Text: "Its report within the folder, as JUnit's XML."},
	"environments[].runtime.commands[].sarif":   {Text: "Its report within the folder, as SARIF 2."},
	"environments[].runtime.commands[].level":   {Text: "The least of a SARIF report that fails it; warning when left out.", Enum: []string{"error", "warning", "note"}},
	"environments[].runtime.commands[].timeout": {Text: "How long it may take; 5m when left out."},
	"objectives":                                {Text: "What users may expect of the services."},
	"objectives[].service":                      {Text: "Name of the service."},
	"objectives[].availability":                 {Text: "Share of requests that succeed, like 99.9%."},
	"features":                                  {Text: "Parts of a service that users know by name."},
	"features[].name":                           {Text: "Name of the feature."},
	"features[].service":                        {Text: "Service that it is part of."},
	"features[].path":                           {Text: "Prefix of its URLs; probed as it stands."},
	"metrics":                                   {Text: "What services count themselves and show in the text format of Prometheus; guards of canaries."},
	"metrics[].name":                            {Text: "Name of the metric."},
	"metrics[].service":                         {Text: "Service that counts it."},
	"metrics[].path":                            {Text: "Where the service shows it; /metrics when left out."},
	"metrics[].total":                           {Text: "Counter of all, with the labels that its series have to have: payments_total."},
	"metrics[].bad":                             {Text: "Counter of those that failed: payments_total{outcome=\"failed\"}."},
	"on-call":                                   {Text: "Who is told of incidents."},
	"on-call[].name":                            {Text: "Name of the rota."},
	"on-call[].rotation":                        {Text: "How long one person is on duty; weekly when left out.", Enum: []string{"daily", "weekly"}},
	"on-call[].people":                          {Text: "Who takes turns."},
	"on-call[].webhook":                         {Text: "Where alerts go: a URL, or secret:<name>."},
	"capacity":                                  {Text: "What a release may hold."},
	"capacity.points":                           {Text: "Points of a release; 40 when left out."},
	"capacity.every":                            {Text: "Plan a release this often; only when asked when left out."},
	"feedback":                                  {Text: "When feedback becomes work."},
	"feedback.users":                            {Text: "Users that have to say the same; 2 when left out."},
	"mappings":                                  {Text: "Claims that are made of CloudEvents that are no CDEvents, by CEL expressions over id, source, type, subject, time, extensions and data. The first that takes an event counts."},
	"mappings[].when":                           {Text: "Condition under which the mapping takes an event."},
	"mappings[].type":                           {Text: "Type of the claim, like pipelinerun.finished."},
	"mappings[].subject":                        {Text: "Makes the id of what the claim is about."},
	"mappings[].chain":                          {Text: "Makes the id of the turn of the loop; a turn of its own when left out."},
	"mappings[].fields":                         {Text: "Make the fields of the content, by their path: lemnis.commit."},
	"mappings[].fields.*":                       {Text: "Makes the field."},
	"quarantine":                                {Text: "Tests whose failures do not count for a while, since somebody mends them."},
	"quarantine[].test":                         {Text: "Suite and name, as evidence names it: example.org/shop/web.TestOnce."},
	"quarantine[].owner":                        {Text: "Who mends it."},
	"quarantine[].until":                        {Text: "The first day on which it counts again, in UTC: 2026-12-24."},
	"queue":                                     {Text: "How changes wait to be merged; one after the other when left out."},
	"queue.slots":                               {Text: "Trains of changes that are tested at once, of each repository; 1 when left out: each change alone, on the master copy."},
	"queue.lanes":                               {Text: "Folders whose changes touch nothing else, where no Go package says what they touch."},
	"signing":                                   {Text: "What artifacts are signed with, and whose signatures count; a key that is made for the project when left out."},
	"signing.key":                               {Text: "Private key, secret:<name>: PEM, Ed25519 or ECDSA over P-256; one is made when left out."},
	"signing.trusted":                           {Text: "Public keys whose signatures count, secret:<name>: PEM."},
	"webhooks":                                  {Text: "Senders whose webhooks the gateway takes, each with the name of its secret: {secret: \"secret:<name>\"}."},
}

var schema = document.Schema{
	Title: "Configuration of a Lemnis project", Required: []string{"project"}, // every section has a default
	Notes: notes, Keys: keys,
	Texts: map[reflect.Type]map[string]any{
		reflect.TypeFor[events.Duration](): {"examples": []string{"300ms", "1h", "2w"}},
		reflect.TypeFor[events.Bytes]():    {"pattern": `^[0-9]+([KMG]i)?B$`},
		reflect.TypeFor[events.Percent]():  {"pattern": `^[0-9]+(\.[0-9]+)?%$`},
	},
}

// Schema is the JSON Schema (2020-12) of a configuration, as indented JSON.
func Schema() ([]byte, error) { return schema.Of(reflect.TypeFor[events.Project]()) }

// keys are those that a mapping may have.
func keys(t reflect.Type) []string {
	var all []string
	switch t {
	case reflect.TypeFor[events.Phase]():
		for _, phase := range events.Phases() {
			all = append(all, string(phase))
		}
	case reflect.TypeFor[events.Severity]():
		for _, s := range events.Severities() {
			all = append(all, string(s))
		}
	case reflect.TypeFor[events.WebhookKind]():
		for _, kind := range events.WebhookKinds() {
			all = append(all, string(kind))
		}
	default:
		panic(fmt.Sprintf("project: nothing says which keys a mapping by %s may have", t))
	}
	return all
}
