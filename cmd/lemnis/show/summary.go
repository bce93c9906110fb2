package show

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/lemnis/lemnis/pkg/events"
)

// Summary says what an event says, in one short line.
func Summary(e events.Event) string {
	return oneLine(cmp.Or(plan(e.Content), develop(e.Content), integrate(e.Content), deploy(e.Content), operate(e.Content), learn(e.Content)))
}

func plan(content any) string {
	switch c := content.(type) {
	case events.ProjectConfigured:
		return fmt.Sprintf("revision %d: %d environments, %d repositories", c.Revision, len(c.Project.Environments), len(c.Project.Repositories))
	case events.TicketCreated:
		return c.Summary + parens(c.Lemnis.Origin)
	case events.TicketUpdated:
		return c.Summary
	case events.TicketClosed:
		return c.Summary + parens(c.Resolution)
	case events.ValueEstimated:
		return fmt.Sprintf("%s is worth %.4g for %.4g: %s says %.4g%s", c.Item, c.Value, c.Cost, c.Estimate.Source, c.Estimate.Value, dash(c.Estimate.Reason))
	case events.BacklogRanked:
		first := make([]string, 0, 3)
		for _, p := range c.Places[:min(len(c.Places), 3)] {
			first = append(first, fmt.Sprintf("%d. %s", p.Rank, cmp.Or(p.Title, p.Item)))
		}
		return cmp.Or(strings.Join(first, "  "), "nothing is open") + dash(c.Reason)
	case events.ReleasePlanned:
		if len(c.Items) == 0 {
			return c.Release
		}
		return fmt.Sprintf("%s: %d items worth %.4g for %.4g of %.4g points", c.Release, len(c.Items), c.Value, c.Cost, c.Capacity)
	case events.ReleaseCompleted:
		return fmt.Sprintf("%s: %d shipped, %d dropped", c.Release, len(c.Shipped), len(c.Dropped))
	}
	return ""
}

func develop(content any) string {
	switch c := content.(type) {
	case events.BranchCreated:
		return reference(c.Repository)
	case events.BranchDeleted:
		return reference(c.Repository)
	case events.ChangeCreated:
		return change(c.Lemnis)
	case events.ChangeUpdated:
		return change(c.Lemnis)
	case events.ChangeReviewed:
		return fmt.Sprintf("%s by %s%s", c.Lemnis.Verdict, c.Lemnis.Reviewer, dash(c.Lemnis.Comment))
	case events.ChangeVerified:
		return c.Reason
	case events.ChangeRejected:
		return c.Reason
	case events.LoopFinished:
		return fmt.Sprintf("%s after %.1f s", c.Outcome, c.Seconds)
	}
	return ""
}

func change(d events.ChangeDetail) string {
	return fmt.Sprintf("%s by %s, %s at %s", cmp.Or(d.Title, d.Branch), d.Author, d.Branch, short(d.Head))
}

// planned says what a plan begins, lets pass and ejects.
func planned(c events.QueuePlanned) string {
	var all []string
	say := func(what string, changes []events.MergeDetail) {
		for i, m := range changes {
			if i == 0 {
				all = append(all, what)
			}
			all = append(all, m.Change)
		}
	}
	for _, r := range c.Begun {
		say("tests", r.Changes)
		say("upon", r.Assumed)
	}
	say("merges", c.Merged)
	for _, e := range c.Ejected {
		say("ejects", []events.MergeDetail{e.Merge})
	}
	return strings.Join(all, " ")
}

func integrate(content any) string {
	switch c := content.(type) {
	case events.QueueEntered:
		return fmt.Sprintf("round %d%s", c.Merge.Round, dash(c.Reason))
	case events.QueueSurveyed:
		if c.Reason != "" {
			return "may touch everything: " + c.Reason
		}
		return "touches " + strings.Join(c.Writes, ", ")
	case events.QueuePlanned:
		return planned(c)
	case events.QueueTested:
		return fmt.Sprintf("%s passed on %s", short(c.Merge.Head), short(c.Merge.Onto))
	case events.QueueEjected:
		return c.Reason
	case events.ChangeMerged:
		return fmt.Sprintf("%s as %s", cmp.Or(c.Lemnis.Title, c.Lemnis.Change), short(c.Lemnis.Commit))
	case events.RepositoryCreated:
		return c.Name
	case events.PipelineRunQueued:
		return c.Lemnis.Merge.Title
	case events.PipelineRunStarted:
		return c.Lemnis.Merge.Title
	case events.PipelineRunFinished:
		return c.Outcome + evidence(c.Lemnis.Merge.Evidence) + dash(c.Errors)
	case events.BuildQueued:
		return c.Lemnis.Service
	case events.BuildStarted:
		return c.Lemnis.Service
	case events.BuildFinished:
		return c.Lemnis.Outcome + evidence(c.Lemnis.Merge.Evidence) + dash(c.Lemnis.Reason)
	case events.ArtifactPackaged:
		return artifact(c.Lemnis)
	case events.ArtifactSigned:
		return artifact(c.Lemnis)
	case events.ArtifactOffered:
		return c.Claimed + ", to be looked up: " + cmp.Or(c.Artifact.Reference, c.Artifact.ID)
	case events.ArtifactRejected:
		return "not " + c.Claimed + dash(c.Reason)
	case events.ArtifactPublished:
		return artifact(c.Lemnis)
	case events.TestSuiteRunFinished:
		passed := 0
		for _, one := range c.Lemnis.Cases {
			if one.Passed {
				passed++
			}
		}
		return fmt.Sprintf("%s in %s, %d of %d passed%s", c.Outcome, c.Environment.ID, passed, len(c.Lemnis.Cases), dash(c.Reason))
	}
	return ""
}

func evidence(e *events.Evidence) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf(", %d tests, %d failed, %.0f %% covered", e.Tests, e.Failed, e.Coverage)
}

func artifact(d events.ArtifactDetail) string {
	return fmt.Sprintf("%s %s, %.1f MB", d.Service, short(strings.TrimPrefix(d.Digest, "sha256:")), float64(d.Size)/1e6)
}

func deploy(content any) string {
	switch c := content.(type) {
	case events.DeploymentRequested:
		return rollout(c.Rollout) + dash(c.Reason)
	case events.DeploymentStarted:
		return rollout(c.Rollout)
	case events.DeploymentFailed:
		return rollout(c.Rollout) + ", " + c.Step + dash(c.Reason)
	case events.DeploymentPaused:
		return rollout(c.Rollout) + by(c.By)
	case events.DeploymentResumed:
		return rollout(c.Rollout) + by(c.By)
	case events.DeploymentAborted:
		return rollout(c.Rollout) + by(c.By) + dash(c.Reason)
	case events.GateEvaluated:
		var closed []string
		for _, check := range c.Checks {
			if !check.Passed {
				closed = append(closed, fmt.Sprintf("%s is %s, asked for %s", check.Name, check.Value, check.Threshold))
			}
		}
		if c.Passed {
			return fmt.Sprintf("open to %s, %d checks", c.Rollout.Environment, len(c.Checks))
		}
		return fmt.Sprintf("closed to %s: %s", c.Rollout.Environment, strings.Join(closed, "; "))
	case events.ApprovalRequested:
		return fmt.Sprintf("%s needs %d", rollout(c.Rollout), c.Needed)
	case events.ApprovalGiven:
		return c.Service + " to " + c.Environment + by(c.By) + dash(c.Reason)
	case events.ApprovalRefused:
		return c.Service + " to " + c.Environment + by(c.By) + dash(c.Reason)
	case events.ServiceDeployed:
		return rollout(c.Lemnis.Rollout) + ", beside nothing yet"
	case events.ServiceUpgraded:
		return rollout(c.Lemnis.Rollout) + ", beside the one that serves"
	case events.ServiceRolledback:
		return rollout(c.Lemnis.Rollout) + " is taken back"
	case events.ServiceRemoved:
		return rollout(c.Lemnis.Rollout)
	case events.ServicePublished:
		return rollout(c.Lemnis.Rollout) + " serves all users at " + c.Lemnis.URL
	case events.CanaryStepped:
		return fmt.Sprintf("%.0f %% of users%s", 100*c.Weight, dash(c.Reason))
	case events.CanaryObserved:
		return fmt.Sprintf("canary %d of %d failed, baseline %d of %d", c.Canary.Errors, c.Canary.Requests, c.Baseline.Errors, c.Baseline.Requests)
	case events.CanaryJudged:
		return c.Verdict + dash(c.Reason)
	case events.ArtifactBarred:
		return short(strings.TrimPrefix(c.Digest, "sha256:")) + dash(c.Reason)
	case events.FlagChanged:
		return c.Flag + " = " + c.Value
	}
	return ""
}

func rollout(r events.Rollout) string { return cmp.Or(r.Service, r.ID) + " to " + r.Environment }

func operate(content any) string {
	switch c := content.(type) {
	case events.IncidentDetected:
		return c.Description
	case events.IncidentReported:
		return c.Description
	case events.IncidentResolved:
		return cmp.Or(c.Lemnis.Remedy, c.Description)
	case events.HealthChanged:
		return fmt.Sprintf("%s%s in %s is %s, p50 %.1f ms", c.Service, slash(c.Feature), c.Environment, c.Status, 1000*c.P50)
	case events.AlertSent:
		if !c.Delivered {
			return "not delivered to " + c.To + dash(c.Reason)
		}
		return "told " + c.To + " by " + c.Channel
	case events.AlertAcknowledged:
		return c.Incident + by(c.By)
	case events.AlertEscalated:
		return "to " + c.To + dash(c.Reason)
	case events.RemediationStarted:
		return c.Action
	case events.RemediationFinished:
		return c.Action + ": " + c.Outcome
	}
	return ""
}

func learn(content any) string {
	switch c := content.(type) {
	case events.FeedbackReceived:
		text := "from " + short(c.User)
		if c.Feature != "" {
			text += " on " + c.Feature
		}
		if c.Rating > 0 {
			text += fmt.Sprintf(", %g of 5", c.Rating)
		}
		return text
	case events.InsightFound:
		state := "not confirmed"
		if c.Confirmed {
			state = "confirmed"
		}
		return fmt.Sprintf("%s, %s, %s", c.Title, count(len(c.Users), "user"), state)
	case events.MetricsComputed:
		m := c.Metrics
		text := fmt.Sprintf("%s, %.0f %% failed", count(m.Deployments, "deployment"), 100*m.ChangeFailRate)
		if m.RecoveryTime >= 0 { // negative: nothing had to recover
			text += fmt.Sprintf(", recovery %.1f s", m.RecoveryTime)
		}
		return text + dash(c.Reason)
	case events.LessonLearned:
		return c.Action + dash(c.Reason)
	case events.ClaimRefused:
		return c.ClaimType.Short() + dash(c.Reason)
	case events.DeadlineReached:
		return "of " + c.FactType.Short()
	}
	return ""
}

// count says how many of a thing there are.
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func reference(r *events.Reference) string {
	if r == nil {
		return ""
	}
	return r.ID
}

func parens(s string) string { return wrapped(" (", s, ")") }
func dash(s string) string   { return wrapped(": ", s, "") }
func by(s string) string     { return wrapped(" by ", s, "") }
func slash(s string) string  { return wrapped("/", s, "") }

func wrapped(before, s, after string) string {
	if s == "" {
		return ""
	}
	return before + s + after
}

// short is what people read of a digest, a commit or a pseudonym.
func short(s string) string {
	if len(s) > 12 {
		return s[:12]
	}
	return s
}

// oneLine keeps what others wrote from breaking the terminal: no control characters, one line, bounded.
func oneLine(s string) string {
	const longest = 160
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > longest {
		s = string(runes[:longest-1]) + "…"
	}
	return s
}
