// Package loop keeps the inner loops (edit, build, test) that workstations report for a work item.
package loop
