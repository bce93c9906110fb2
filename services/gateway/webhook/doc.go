// Package webhook makes claims of what forges and Alertmanager send. It is pure: a body, its headers and a project's
// configuration go in, claims come out; the gateway puts them on the stream.
//
//	sender, ok := webhook.Lookup("github")
//	if sender.Offers(headers) && sender.Authentic(headers, body, secrets) {
//		claims, err := sender.Translate(headers, body, project, time.Now())
//	}
//
// # What becomes of what
//
//	GitHub                               GitLab                        Gitea, Forgejo               claim                        subject.id
//	push of a new branch                 Push Hook                     push                         branch.created               branch
//	push that deletes one                Push Hook                     delete                       branch.deleted               branch
//	any other push                       Push Hook, Tag Push Hook      push                         repository.modified          repository
//	pull_request opened, reopened        open, reopen                  opened, reopened             change.created               repository#number
//	  synchronize, edited                update (head, words, base)    synchronized, edited         change.updated
//	  closed, not merged                 close                         closed                       change.abandoned
//	  closed, merged                     merge                         closed                       change.merged
//	pull_request_review submitted        approval(s), unapproval       pull_request_approved, …     change.reviewed
//	issues opened                        open                          opened                       ticket.created               repository#number
//	  edited, labeled, assigned,         update, reopen                edited, label_updated,       ticket.updated
//	  reopened, …                                                      assigned, reopened, …
//	  closed, deleted, transferred       close                         closed, deleted              ticket.closed
//	release published                    Release Hook create           published                    artifact.published           package URL
//	  deleted, unpublished               delete                        deleted                      artifact.deleted
//	workflow_run requested               created, pending, …           –                            pipelinerun.queued           repository/runs/id
//	  in_progress                        running                                                    pipelinerun.started
//	  completed                          success, failed, canceled, …                               pipelinerun.finished
//	deployment_status in_progress        running                       –                            deployment.started           environment/repository
//	  success                            success                                                    service.deployed             repository
//	  failure, error                     failed, canceled                                           deployment.failed            environment/repository
//
//	Alertmanager: an alert that fires    incident.detected   alert/<fingerprint>#<start>
//	              one that is resolved   incident.resolved
//
// Any other action of these events makes no claim. Other events are told apart as [UnknownError].
//
// A push to a branch does not claim change.merged: that a change is part of the master copy is for its pull request to
// say, which has reviews, and a push past it has none. What the push moved stands in customData.push.
//
// # How claims belong together
//
// All claims of one pull request have its key, repository#number, where repository is the name in the project's
// configuration. Their chain is named after the address of the ticket that title or description close ("Fixes #7"), else
// after their own; runs without a pull request, pushes and deployments have the chain of their commit. The PATH link is
// the address, at the sender, of what a claim follows from; RELATION links name the ticket and the commit.
//
// # What is believed
//
// Only the body is signed. So ids follow from the project and the body (a replay is the same claims), and the event that
// the header names has to be the one that the body is of: a signed rejection is no approval under another header. The
// repository of the body has to be one of the project's. People are those that the sender names. A review by the author
// is refused by who decides on changes, not here.
//
// # Libraries
//
// Pull and merge requests are read by internal/proposal, as the builder reads them where it lists them by an API. The rest of
// the payloads is read into the types of google/go-github, gitlab-org/api/client-go and go-playground/webhooks, which add
// 1.2, 0.9 and 0.02 MB to a program (stripped, each alone). Alertmanager's own type would add 3.6 MB; its dozen fields stand
// here.
package webhook
