package events

// TestSuiteRunDetail is what Lemnis adds to a test suite run.
type TestSuiteRunDetail struct {
	Kind     string             `json:"kind,omitempty"` // unit, quality, compliance, security
	Rollout  string             `json:"rollout,omitempty"`
	Artifact *ArtifactDetail    `json:"artifact,omitempty"`
	Values   map[string]float64 `json:"values,omitempty"`
	Cases    []TestCaseResult   `json:"cases,omitempty"`
	Evidence *Evidence          `json:"evidence,omitempty"`
}

// TestCaseResult is one case of a test suite run.
type TestCaseResult struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind,omitempty"`
	Passed  bool    `json:"passed"`
	Reason  string  `json:"reason,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// TestSubject names a test case or suite.
type TestSubject struct {
	ID      string `json:"id" schema:"nonempty"`
	Version string `json:"version,omitempty"`
	Name    string `json:"name,omitempty"`
	Type    string `json:"type,omitempty" schema:"enum=performance|functional|unit|security|compliance|integration|e2e|other"`
	URI     string `json:"uri,omitempty"`
}

// TestSuite names a test suite.
type TestSuite struct {
	ID      string `json:"id" schema:"nonempty"`
	Version string `json:"version,omitempty"`
	Name    string `json:"name,omitempty"`
	URI     string `json:"uri,omitempty"`
}

// TestTrigger says what started a test.
type TestTrigger struct {
	Type string `json:"type,omitempty" schema:"enum=manual|pipeline|event|schedule|other"` // manual, pipeline, event, schedule, other
	URI  string `json:"uri,omitempty"`
}

// TestSuiteRunQueued says that a test suite waits to run.
type TestSuiteRunQueued struct {
	Environment Reference          `json:"environment"`
	TestSuite   *TestSuite         `json:"testSuite,omitempty"`
	Trigger     *TestTrigger       `json:"trigger,omitempty" schema:"open"`
	Lemnis      TestSuiteRunDetail `json:"-"`
}

// TestSuiteRunStarted says that a test suite runs.
type TestSuiteRunStarted struct {
	Environment Reference          `json:"environment"`
	TestSuite   *TestSuite         `json:"testSuite,omitempty"`
	Trigger     *TestTrigger       `json:"trigger,omitempty" schema:"open"`
	Lemnis      TestSuiteRunDetail `json:"-"`
}

// TestSuiteRunFinished says how a test suite ended.
type TestSuiteRunFinished struct {
	Environment Reference          `json:"environment"`
	TestSuite   *TestSuite         `json:"testSuite,omitempty"`
	Outcome     string             `json:"outcome" schema:"enum=success|failure|cancel|error"` // success, failure, cancel, error
	Severity    string             `json:"severity,omitempty" schema:"enum=low|medium|high|critical"`
	Reason      string             `json:"reason,omitempty"`
	Lemnis      TestSuiteRunDetail `json:"-"`
}

// TestCaseRunQueued says that a test case waits to run.
type TestCaseRunQueued struct {
	Environment  Reference    `json:"environment"`
	TestSuiteRun *Reference   `json:"testSuiteRun,omitempty"`
	TestCase     *TestSubject `json:"testCase,omitempty"`
	Trigger      *TestTrigger `json:"trigger,omitempty" schema:"open"`
}

// TestCaseRunStarted says that a test case runs.
type TestCaseRunStarted struct {
	Environment  Reference    `json:"environment"`
	TestSuiteRun *Reference   `json:"testSuiteRun,omitempty"`
	TestCase     *TestSubject `json:"testCase,omitempty"`
	Trigger      *TestTrigger `json:"trigger,omitempty" schema:"open"`
}

// TestCaseRunFinished says how a test case ended.
type TestCaseRunFinished struct {
	Environment  Reference    `json:"environment"`
	TestSuiteRun *Reference   `json:"testSuiteRun,omitempty"`
	TestCase     *TestSubject `json:"testCase,omitempty"`
	Outcome      string       `json:"outcome" schema:"enum=success|failure|cancel|error"`
	Severity     string       `json:"severity,omitempty" schema:"enum=low|medium|high|critical"`
	Reason       string       `json:"reason,omitempty"`
}

// TestCaseRunSkipped says that a test case did not run, and why.
type TestCaseRunSkipped struct {
	Environment  Reference    `json:"environment" schema:"optional"`
	TestSuiteRun *Reference   `json:"testSuiteRun,omitempty"`
	TestCase     *TestSubject `json:"testCase,omitempty"`
	Reason       string       `json:"reason,omitempty"`
}

// TestOutputPublished says where the output of a test is.
type TestOutputPublished struct {
	OutputType  string     `json:"outputType" schema:"enum=report|video|image|log|other"`
	Format      string     `json:"format"`
	URI         string     `json:"uri,omitempty"`
	TestCaseRun *Reference `json:"testCaseRun,omitempty"`
}
