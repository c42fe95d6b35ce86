# METADATA
# title: The weather
# custom:
#   legal_ground: By-law of the port, s. 1
package exchange.checks.weather

deny contains if {
